//! A proxy that spoils what passes through it: it delays, withholds, drips and cuts, as networks do.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::HarnessError;

/// What happens to bytes that pass from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// They pass.
    None,
    /// They pass, each piece so much later.
    Delay(Duration),
    /// They are kept, in both directions, and connections stay open.
    Hold,
    /// Requests pass and answers do not: who asked never hears what became of it.
    HoldAnswers,
    /// They pass one by one.
    Drip,
    /// A connection is cut as soon as it has passed so many further bytes towards the server.
    CutAfter(u64),
    /// A connection is cut at the server's next answer, which is lost.
    CutAnswer,
}

/// A proxy in front of a server. Its connections are cut when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    fault: Mutex<Fault>,
    connections: Mutex<Vec<(TcpStream, TcpStream)>>,
    /// Connections that a fault cut.
    cut: AtomicU64,
    over: AtomicBool,
}

impl Shared {
    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, Vec<(TcpStream, TcpStream)>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// Listens on a free port of the loopback interface for what is meant for `server`.
    pub fn start(server: SocketAddr) -> Result<Proxy, HarnessError> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            fault: Mutex::new(Fault::None),
            connections: Mutex::default(),
            cut: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.over.load(Ordering::Acquire) {
                    return;
                }
                // A server that is away is away through the proxy as well: the connection ends at once.
                if let (Ok(client), Ok(server)) = (stream, TcpStream::connect(server)) {
                    drop(pass_on(&accepting, client, server));
                }
            }
        });
        Ok(Proxy { address, shared })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets what happens from now on.
    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Cuts all connections now.
    pub fn cut(&self) {
        for (client, server) in self.shared.connections().drain(..) {
            drop(client.shutdown(Shutdown::Both));
            drop(server.shutdown(Shutdown::Both));
        }
    }

    /// Connections that a fault cut so far.
    #[must_use]
    pub fn cuts(&self) -> u64 {
        self.shared.cut.load(Ordering::Acquire)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        self.cut();
        // Wakes the accepting thread.
        drop(TcpStream::connect(self.address));
    }
}

fn pass_on(shared: &Arc<Shared>, client: TcpStream, server: TcpStream) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    shared.connections().push((client.try_clone()?, server.try_clone()?));
    let requests = (Arc::clone(shared), client.try_clone()?, server.try_clone()?);
    let answers = (Arc::clone(shared), server, client);
    thread::spawn(move || pump(&requests.0, requests.1, requests.2, true));
    thread::spawn(move || pump(&answers.0, answers.1, answers.2, false));
    Ok(())
}

/// Passes bytes from one end to the other, as the fault of the moment allows.
fn pump(shared: &Shared, mut from: TcpStream, mut to: TcpStream, towards_server: bool) {
    let (mut buffer, mut passed) = (vec![0; 64 * 1024], 0u64);
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let held = || match shared.fault() {
            Fault::Hold => true,
            Fault::HoldAnswers => !towards_server,
            _ => false,
        };
        while held() && !shared.over.load(Ordering::Acquire) {
            thread::sleep(Duration::from_millis(2));
        }
        let mut piece = &buffer[..read];
        match shared.fault() {
            Fault::Delay(delay) => thread::sleep(delay),
            Fault::Drip => {
                let mut bytes = piece.iter();
                if bytes.by_ref().take(4_096).try_for_each(|byte| to.write_all(&[*byte])).is_err() {
                    break;
                }
                piece = bytes.as_slice();
            }
            Fault::CutAfter(bytes) if towards_server && passed + read as u64 > bytes => {
                drop(to.write_all(&piece[..(bytes.saturating_sub(passed) as usize).min(read)]));
                shared.cut.fetch_add(1, Ordering::AcqRel);
                break;
            }
            Fault::CutAnswer if !towards_server => {
                shared.cut.fetch_add(1, Ordering::AcqRel);
                break;
            }
            _ => {}
        }
        if to.write_all(piece).is_err() {
            break;
        }
        passed = if shared.fault() == Fault::None { 0 } else { passed + read as u64 };
    }
    drop(from.shutdown(Shutdown::Both));
    drop(to.shutdown(Shutdown::Both));
}
