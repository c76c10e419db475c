//! Owns listening on a port of this machine, with a thread for each connection; it can be stopped
//! and started again on the same port.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::http::{Request, read_request};

type Handle = dyn Fn(&Request, &mut TcpStream) -> io::Result<bool> + Send + Sync;

/// A server; gone when dropped.
pub struct Server {
    pub port: u16,
    handle: Arc<Handle>,
    running: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// How often an idle thread looks whether the server still runs.
const TICK: Duration = Duration::from_millis(20);

impl Server {
    /// Answers every request by `handle`, which says whether the connection goes on.
    pub fn start(
        handle: impl Fn(&Request, &mut TcpStream) -> io::Result<bool> + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (running, thread) = (Arc::new(AtomicBool::new(false)), Mutex::new(None));
        let server = Server { port, handle: Arc::new(handle), running, thread };
        server.listen(listener);
        server
    }

    fn listen(&self, listener: TcpListener) {
        listener.set_nonblocking(true).unwrap();
        self.running.store(true, Ordering::SeqCst);
        let (running, handle) = (Arc::clone(&self.running), Arc::clone(&self.handle));
        let accept = move || {
            while running.load(Ordering::SeqCst) {
                let Ok((stream, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                };
                let (running, handle) = (Arc::clone(&running), Arc::clone(&handle));
                std::thread::spawn(move || drop(converse(stream, &running, &*handle)));
            }
        };
        *self.thread.lock().unwrap() = Some(std::thread::spawn(accept));
    }

    /// From here on connections are refused, and those that are open end.
    pub fn stop(&self) {
        self.running.store(false, Ordering::SeqCst);
        if let Some(thread) = self.thread.lock().unwrap().take() {
            thread.join().unwrap();
        }
    }

    /// Listens on the same port again.
    pub fn again(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match TcpListener::bind(("127.0.0.1", self.port)) {
                Ok(listener) => return self.listen(listener),
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            std::thread::sleep(TICK);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running.store(false, Ordering::SeqCst);
    }
}

/// Answers the requests of one connection.
fn converse(mut stream: TcpStream, running: &AtomicBool, handle: &Handle) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    loop {
        stream.set_read_timeout(Some(TICK))?;
        loop {
            match stream.peek(&mut [0]) {
                Ok(0) => return Ok(()),
                Ok(_) => break,
                Err(_) if running.load(Ordering::SeqCst) => {}
                Err(error) => return Err(error),
            }
        }
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let Some(request) = read_request(&mut stream)? else { return Ok(()) };
        if !handle(&request, &mut stream)? || !running.load(Ordering::SeqCst) {
            return Ok(());
        }
    }
}
