//! Runs commands that ask for input on a terminal.

use std::{
    io::{Read, Write},
    process::{Command, Stdio},
};

use super::{
    sandbox::{CLAVIGER, Sandbox},
    secrets,
};

/// Runs `claviger <line>` on a terminal, and types one of `answers` at each prompt. Returns the text on the terminal at
/// the end, and whether the command succeeded.
pub(crate) fn type_into(sandbox: &Sandbox, line: &str, answers: &[&str]) -> (String, bool) {
    let line = format!("{CLAVIGER} {}", line.replace("[DIR]", &sandbox.root().to_string_lossy()));
    // `script` gives the command its own terminal, and copies the output.
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut script = script.spawn().unwrap();
    let (mut keyboard, mut screen) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
    let mut shown = Vec::new();
    for answer in answers {
        shown.push(0);
        while !shown.ends_with(b": ") {
            let mut byte = [0];
            screen.read_exact(&mut byte).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&shown)));
            shown.push(byte[0]);
        }
        keyboard.write_all(format!("{answer}\r").as_bytes()).unwrap();
    }
    screen.read_to_end(&mut shown).unwrap();
    shown.retain(|byte| *byte != 0);
    let said = String::from_utf8_lossy(&shown).into_owned();
    // An answer of this length is a secret, and the terminal must not show it.
    assert!(answers.iter().all(|answer| answer.len() < 6 || !said.contains(answer)), "{said}");
    assert_eq!(secrets::found_in(&shown, sandbox.root()), Vec::<String>::new());
    (said, script.wait().unwrap().success())
}
