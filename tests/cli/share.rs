//! Tests a recovery identity in shares: enough shares restore a backup, and everything else is refused with a reason.

use std::fs;

use super::{
    backup::{OURS, STATE, names, with_recovery},
    sandbox::{Answer, Sandbox, snapshot},
};

/// Splits `ours.txt`. Returns the names of the files by the numbers of the shares.
fn split(sandbox: &Sandbox, directory: &str) -> Vec<String> {
    sandbox.make_dir(directory, 0o700);
    let line = format!("recovery split {OURS} --shares 5 --threshold 3 --directory [DIR]/{directory} --output json");
    let json = sandbox.run(&line).ends_with(0).json();
    assert_eq!((&json["format"], &json["threshold"]), (&"claviger/recovery-split/v1".into(), &3.into()));
    json["shares"].as_array().unwrap().iter().map(|path| path.as_str().unwrap().to_owned()).collect()
}

fn given(files: &[&String]) -> String {
    files.iter().map(|file| format!("--recovery-identity {file}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn as_many_shares_as_it_takes_are_the_identity() {
    let sandbox = with_recovery();
    let shares = split(&sandbox, "shares");
    fs::remove_file(sandbox.path("ours.txt")).unwrap();
    sandbox.run(&format!("backup create [DIR]/backup.age {STATE}")).ends_with(0);
    let three = given(&[&shares[4], &shares[0], &shares[2]]);
    sandbox.run(&format!("recovery test {three} {STATE}")).ends_with(0);
    sandbox.run(&format!("backup check [DIR]/backup.age {three} {STATE}")).ends_with(0);
    // One file contains all shares, as somebody has typed them.
    let typed: String = shares[1..4]
        .iter()
        .map(|path| fs::read_to_string(path.replace("[DIR]", &sandbox.root().to_string_lossy())).unwrap())
        .map(|text| text.lines().last().unwrap().to_lowercase().replace(' ', "") + "\r\n\r\n")
        .collect();
    fs::write(sandbox.path("typed"), typed).unwrap();
    let expect =
        sandbox.run(&format!("status {STATE} --output json")).json()["keyring"]["expect"].as_str().unwrap().to_owned();
    let line = format!(
        "backup restore [DIR]/backup.age --recovery-identity [DIR]/typed --state-dir [DIR]/new --expect {expect}"
    );
    sandbox.run(&line).ends_with(0);
    assert_eq!(names(&sandbox, "new").0, names(&sandbox, "state").0);
    // No file of the state directory contains the identity.
    sandbox
        .run(&format!("recovery test {} {STATE}", given(&[&shares[0], &shares[1], &shares[2], &shares[3]])))
        .ends_with(0);
}

#[test]
fn what_does_not_make_an_identity_is_refused_by_name() {
    let sandbox = with_recovery();
    let ours = split(&sandbox, "shares");
    let others = split(&sandbox, "others");
    let path = |file: &str| file.replace("[DIR]", &sandbox.root().to_string_lossy());
    let text = fs::read_to_string(path(&ours[1])).unwrap();
    let last = text.trim_end().chars().last().unwrap();
    let damaged = format!("{}{}\n", &text.trim_end()[..text.trim_end().len() - 1], if last == 'Q' { 'P' } else { 'Q' });
    fs::write(sandbox.path("damaged"), damaged).unwrap();
    let damaged = "[DIR]/damaged".to_owned();
    fs::write(sandbox.path("two.txt"), fs::read_to_string(sandbox.path("ours.txt")).unwrap().repeat(2)).unwrap();
    let refused = |exit, files: &[&String]| {
        let mut answer = sandbox.refused(exit, &format!("recovery test {} {STATE}", given(files)));
        answer.hide(&[set_of(&ours[0]), set_of(&others[0])]);
        answer
    };
    let counts = |rest: &str| sandbox.refused(2, &format!("recovery split {rest} --directory [DIR]/shares"));
    let answers: Vec<Answer> = vec![
        refused(2, &[&ours[0], &ours[1]]),
        refused(2, &[&ours[0], &ours[1], &others[2]]),
        refused(2, &[&ours[0], &ours[1], &ours[1]]),
        refused(7, &[&ours[0], &damaged, &ours[2]]),
        counts(&format!("{OURS} --shares 5 --threshold 1")),
        counts(&format!("{OURS} --shares 2 --threshold 3")),
        counts(&format!("{OURS} --shares 200 --threshold 3")),
        counts("--recovery-identity [DIR]/two.txt --shares 3 --threshold 2"),
        sandbox.refused(3, &format!("recovery split {OURS} --shares 3 --threshold 2 --directory [DIR]/none")),
    ];
    snapshot("share/refused", &answers.iter().collect::<Vec<_>>());
}

#[test]
fn a_pattern_of_files_and_a_recipient_are_answered_with_what_was_meant() {
    let sandbox = with_recovery();
    let shares = split(&sandbox, "shares");
    for given in [format!("--recovery-identity {}", shares[0]), format!("--recovery-identity={}", shares[0])] {
        let pattern = sandbox.refused(2, &format!("recovery test {STATE} {given} {} {}", shares[1], shares[2]));
        let tip = format!("tip: each value needs the option: --recovery-identity {}", shares[1]);
        assert!(pattern.stderr.contains("unexpected argument") && pattern.stderr.contains(&tip), "{pattern}");
    }
    // The error does not mention options that are given once, and words without an option.
    for line in [format!("recovery test {STATE} more"), format!("recovery list more {STATE}")] {
        assert!(!sandbox.refused(2, &line).stderr.contains("each value"), "{line}");
    }
    let recipient = fs::read_to_string(sandbox.path("ours.txt")).unwrap();
    let recipient =
        recipient.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap_or("age1qqq").to_owned();
    let refused = sandbox.refused(2, &format!("recovery test {STATE} --recovery-identity {recipient}"));
    let expected = "error: --recovery-identity takes a file with the identity, and this is a recipient, which opens nothing\nhint:  \
                    give the file that `age-keygen -o FILE` wrote when it printed this recipient: --recovery-identity FILE\n";
    assert_eq!(refused.stderr, expected);
}

/// Returns the name of a share's set, which its file name contains.
fn set_of(file: &str) -> String {
    file.split("claviger-share-").nth(1).unwrap()[..8].to_owned()
}

#[test]
fn a_split_says_what_it_made_and_what_comes_next() {
    let sandbox = with_recovery();
    let mut made = sandbox.run(&format!("recovery split {OURS} --shares 3 --threshold 2 --directory [DIR]"));
    made.ends_with(0);
    let set = set_of(&made.stdout);
    let text = fs::read_to_string(sandbox.path(&format!("claviger-share-{set}-2-of-3.txt"))).unwrap();
    assert!(
        text.starts_with(&format!("# claviger: share 2 of 3, set {set}\n# any 2 of them restore the identity of age1")),
        "{text}"
    );
    made.hide(&[set]);
    snapshot("share/split", &[&made]);
}
