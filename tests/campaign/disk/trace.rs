//! Runs commands under strace, and reads the system calls that it prints.

use std::{
    fs,
    process::{Command, Stdio},
};

use super::case::Prepared;
use crate::{cli::sandbox::Sandbox, systemd::installed};

/// Whether strace is installed. If not, prints that.
pub(super) fn is_here() -> bool {
    installed("strace").is_some()
}

/// One system call.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) name: String,
    /// The number of the call among the calls of this name, from 1.
    pub(super) number: usize,
    /// The text in the parentheses.
    pub(super) args: String,
    /// The result of the call.
    pub(super) result: String,
}

impl Call {
    /// Returns the paths that strace shows beside descriptors, and absolute ones in quotes.
    pub(super) fn paths(&self) -> Vec<String> {
        let beside = |text: &str| -> Vec<String> {
            text.split('<').skip(1).filter_map(|rest| rest.split_once('>')).map(|(path, _)| path.to_owned()).collect()
        };
        let quoted = self.args.split('"').skip(1).step_by(2).filter(|text| text.starts_with('/')).map(str::to_owned);
        beside(&self.args).into_iter().chain(beside(&self.result)).chain(quoted).collect()
    }

    pub(super) fn succeeded(&self) -> bool {
        !self.result.starts_with('-')
    }
}

/// Runs a case undisturbed, and returns its system calls. strace keeps `strings` bytes of each string.
pub(super) fn of(prepared: &Prepared, sandbox: &Sandbox, strings: usize) -> Vec<Call> {
    let file = sandbox.path("trace");
    let wrapper = ["strace", "-f", "-y", "-s", &strings.to_string(), "-o", &file.display().to_string()];
    let mut command = prepared.command(sandbox, &wrapper.map(ToOwned::to_owned));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}: {}", prepared.case.name, String::from_utf8_lossy(&output.stderr));
    parse(&fs::read_to_string(file).unwrap())
}

fn parse(text: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    for line in text.lines() {
        let Some((_, rest)) = line.split_once(' ') else { continue };
        let Some((name, rest)) = rest.trim_start().split_once('(') else { continue };
        let Some((args, result)) = rest.rsplit_once(" = ") else { continue };
        let args = args.trim_end().trim_end_matches(')').to_owned();
        let number = 1 + calls.iter().filter(|call| call.name == name).count();
        calls.push(Call { name: name.to_owned(), number, args, result: result.to_owned() });
    }
    calls
}

/// Runs a case with a fault injected into `call`. Returns the exit code, `None` for a signal, and the error text.
pub(super) fn inject(prepared: &Prepared, sandbox: &Sandbox, call: &Call, fault: &str) -> (Option<i32>, String) {
    // strace injects a fault only into calls that it traces.
    let traced = format!("trace={}", call.name);
    let fault = format!("inject={}:{fault}:when={}", call.name, call.number);
    let wrapper = ["strace", "-f", "-o", "/dev/null", "-e", &traced, "-e", &fault].map(ToOwned::to_owned);
    let mut command: Command = prepared.command(sandbox, &wrapper);
    let output = command.stdin(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Returns what strace wrote as a string, with its escapes undone.
pub(super) fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.iter().take(3).take_while(|byte| (b'0'..b'8').contains(byte)).count();
        if digits > 0 {
            let octal = std::str::from_utf8(&rest[..digits]).unwrap();
            bytes.push(u8::from_str_radix(octal, 8).unwrap());
            rest = &rest[digits..];
            continue;
        }
        let (escape, after) = rest.split_first().unwrap();
        rest = after;
        bytes.push(match escape {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'v' => 0x0b,
            b'f' => 0x0c,
            other => *other,
        });
    }
    bytes
}

#[test]
fn escapes_are_undone() {
    assert_eq!(unescape(r#"a\n\0\17\3771\\\"b"#), b"a\n\0\x0f\xff1\\\"b");
}
