//! Asks on the terminal for a line that the terminal does not show.

use std::{
    fs::File,
    io::{self, Read, Write},
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// The greatest length of a line that Linux accepts on a terminal, in bytes (`termios(3)`).
const LINE_MAX: usize = 4096;

/// Prints `prompt` on the terminal of this process, and returns the line that is typed, without its end. The terminal
/// does not show the line, also if standard input and output are redirected.
///
/// # Errors
/// When the process has no terminal, or the terminal ends before a line.
pub(super) fn ask_hidden(prompt: &str) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut terminal = File::options().read(true).write(true).open("/dev/tty")?;
    let hidden = HiddenInput::begin(&terminal)?;
    terminal.write_all(prompt.as_bytes())?;
    // The terminal passes whole lines on, each by one read. So no buffer grows, and none keeps a copy.
    let mut line = Zeroizing::new(vec![0; LINE_MAX]);
    let length = terminal.read(&mut line)?;
    drop(hidden);
    line.truncate(length);
    if line.pop_if(|end| *end == b'\n').is_none() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    line.pop_if(|end| *end == b'\r');
    Ok(line)
}

/// Hides what is typed until it is dropped. Only the end of a line is shown.
struct HiddenInput {
    terminal: File,
    before: Termios,
}

impl HiddenInput {
    fn begin(terminal: &File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let hidden = Self { terminal: terminal.try_clone()?, before };
        let mut modes = hidden.before.clone();
        modes.local_modes.remove(LocalModes::ECHO);
        modes.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(terminal, OptionalActions::Now, &modes)?;
        Ok(hidden)
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        // If this fails, the terminal is gone.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}
