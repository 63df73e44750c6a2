//! Two rotations at once: one goes on, and no key is lost or made in vain.

use super::{call, keys, rotate};
use crate::reencrypt::rig::Rig;

#[test]
fn two_rotations_at_once_end_with_one_primary_key_and_lose_nothing() {
    let mut rig = Rig::new();
    rig.create_secrets("old", 30);
    let children: Vec<_> =
        (0..2).map(|_| call(&mut rig, "--without-backup --api-servers 1 --output json").start()).collect();
    let outputs: Vec<_> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    let said = outputs.iter().map(|output| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        format!("{}\n{}{}", output.status, text(&output.stdout), text(&output.stderr))
    });
    let said: Vec<String> = said.collect();
    let codes: Vec<_> = outputs.iter().map(|output| output.status.code()).collect();
    assert!(codes.contains(&Some(0)), "{said:#?}");
    for (code, said) in codes.iter().zip(&said) {
        let is_overtaken = said.contains("another command has replaced or ended the plan of ");
        assert!(*code == Some(0) || *code == Some(3) && is_overtaken, "{said}");
    }
    let made = keys(&rig);
    let primary: Vec<_> = made.iter().filter(|(_, state)| state == "primary").collect();
    assert_eq!(primary.len(), 1, "{made:?}");
    assert!(made.iter().all(|(_, state)| state != "pending"), "no key is made in vain: {made:?}");
    rig.is_clean();
    // The next rotation begins anew.
    let next = rotate(&mut rig, "--dry-run --without-backup --api-servers 1", 0);
    assert!(next.stdout.contains("make a key, and have the plugin prove that it can read with it"), "{next}");
}
