//! A connection to etcd that stops or breaks after a given number of bytes of answers: in the middle of a page.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

/// The time limit for a client. A client that waits longer hangs.
const LIMIT: Duration = Duration::from_mins(1);

/// The reaction when the bytes have passed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Hold,
    /// Stops each connection after its own `bytes` bytes, until the proxy is released.
    HoldEach,
    Break,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Passing,
    Held,
    Released,
}

/// A proxy that serves one client after the other.
pub(crate) struct Proxy {
    port: u16,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Proxy {
    /// Passes `bytes` bytes of the answers of the server at `url`.
    pub(crate) fn start(url: &str, bytes: usize, then: Then) -> Self {
        let server = url.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new((Mutex::new(State::Passing), Condvar::new()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            let mut left = bytes;
            while let Ok((client, _)) = listener.accept() {
                let server = TcpStream::connect(&server).unwrap();
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || pass(from, to, &mut usize::MAX.clone(), || true));
                if then == Then::HoldEach {
                    left = bytes;
                }
                pass(server, client, &mut left, || then != Then::Break && hold(&shared, then));
                if then == Then::Break && left == 0 {
                    return;
                }
            }
        });
        Self { port, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Waits until the proxy holds a connection.
    pub(crate) fn wait_until_held(&self) {
        let (state, changed) = &*self.state;
        let (state, _) = changed.wait_timeout_while(state.lock().unwrap(), LIMIT, |s| *s != State::Held).unwrap();
        assert!(*state == State::Held, "too few bytes passed");
    }

    /// Lets everything pass from now on.
    pub(crate) fn release(&self) {
        *self.state.0.lock().unwrap() = State::Released;
        self.state.1.notify_all();
    }
}

/// Waits until the proxy is released.
fn hold((state, changed): &(Mutex<State>, Condvar), then: Then) -> bool {
    let mut state = state.lock().unwrap();
    if *state == State::Passing {
        *state = State::Held;
        changed.notify_all();
    }
    let (mut state, _) = changed.wait_timeout_while(state, LIMIT, |state| *state == State::Held).unwrap();
    let is_released = *state == State::Released;
    if then == Then::HoldEach {
        *state = State::Passing;
    }
    is_released
}

/// Passes bytes until one side has no more. If none are left of `left`, continues only if `next` says so.
fn pass(mut from: TcpStream, mut to: TcpStream, left: &mut usize, next: impl Fn() -> bool) {
    let mut buffer = vec![0; 1 << 14];
    loop {
        if *left == 0 {
            if !next() {
                break;
            }
            *left = usize::MAX;
        }
        let wanted = buffer.len().min(*left);
        match from.read(&mut buffer[..wanted]) {
            Ok(read) if read > 0 && to.write_all(&buffer[..read]).is_ok() => *left -= read,
            _ => break,
        }
    }
    // A client that has closed its connection needs no answer.
    _ = from.shutdown(Shutdown::Both);
    _ = to.shutdown(Shutdown::Both);
}
