//! Endpoints at which something goes wrong: a proxy that loses transactions, and a server that never answers.

use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

/// The text that the proxy takes as the sign of a transaction. Values that a test writes begin with it.
pub const MARK: &str = "a record: ";

/// The time after which etcd has executed a request that reached it.
const EXECUTED: Duration = Duration::from_millis(700);

/// An address at which nobody listens.
pub const REFUSING: &str = "http://127.0.0.1:1";

/// What happens to a transaction. In each case the client loses its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// The request is lost.
    RequestLost,
    /// etcd executes the transaction, and its answer is lost.
    AnswerLost,
    /// The request reaches etcd only when the proxy is released, long after the client has gone.
    Late,
}

/// A proxy in front of one etcd. It passes everything except the first transactions.
pub struct LossyProxy {
    port: u16,
    late: Mutex<mpsc::Receiver<Request>>,
}

/// A request that has not reached etcd yet: its bytes, and the connection to etcd.
type Request = (Vec<u8>, TcpStream);

impl LossyProxy {
    /// Starts a proxy in front of the etcd at `url`. The first transactions have these mishaps, in order.
    pub fn start(url: &str, mishaps: &[Mishap]) -> Self {
        let server = url.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mishaps = Arc::new(Mutex::new(VecDeque::from(mishaps.to_vec())));
        let (sender, late) = mpsc::channel();
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let Ok(server) = TcpStream::connect(&server) else { continue };
                let (mishaps, sender) = (Arc::clone(&mishaps), sender.clone());
                thread::spawn(move || pass(&client, &server, &mishaps, &sender));
            }
        });
        Self { port, late: Mutex::new(late) }
    }

    /// Returns the address of the proxy.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Lets the late requests reach etcd, and waits until etcd has executed them. Returns their number.
    pub fn release(&self) -> usize {
        let late: Vec<Request> = self.late.lock().unwrap().try_iter().collect();
        for (request, server) in &late {
            (&*server).write_all(request).unwrap();
        }
        thread::sleep(EXECUTED);
        late.len()
    }
}

/// Passes requests and answers of one connection until it ends, or until a transaction has a mishap.
fn pass(client: &TcpStream, server: &TcpStream, mishaps: &Mutex<VecDeque<Mishap>>, late: &mpsc::Sender<Request>) {
    let is_lost = Arc::new(AtomicBool::new(false));
    let (from, to, is_silent) = (server.try_clone().unwrap(), client.try_clone().unwrap(), Arc::clone(&is_lost));
    thread::spawn(move || answers(&from, &to, &is_silent));
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = (&*client).read(&mut buffer) {
        let request = &buffer[..length];
        let is_transaction = request.windows(MARK.len()).any(|part| part == MARK.as_bytes());
        let mishap = if is_transaction { mishaps.lock().unwrap().pop_front() } else { None };
        is_lost.store(mishap.is_some(), Ordering::SeqCst);
        if mishap.is_none_or(|mishap| mishap == Mishap::AnswerLost) && (&*server).write_all(request).is_err() {
            break;
        }
        match mishap {
            None => continue,
            Some(Mishap::RequestLost) => {}
            Some(Mishap::AnswerLost) => thread::sleep(EXECUTED),
            Some(Mishap::Late) => {
                late.send((request.to_owned(), server.try_clone().unwrap())).unwrap();
                _ = client.shutdown(Shutdown::Both);
                return;
            }
        }
        break;
    }
    _ = client.shutdown(Shutdown::Both);
    _ = server.shutdown(Shutdown::Both);
}

/// Passes the answers of a server until it ends. Drops them as soon as a transaction is lost.
fn answers(mut from: &TcpStream, mut to: &TcpStream, is_lost: &AtomicBool) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if !is_lost.load(Ordering::SeqCst) && to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    if !is_lost.load(Ordering::SeqCst) {
        _ = to.shutdown(Shutdown::Both);
    }
}

/// Returns the address of a server that accepts connections and never answers. It ends when the listener is dropped.
pub fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}
