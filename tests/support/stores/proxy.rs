//! Owns a proxy before a store that does what stores do on bad days, and keeps a record.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::http::{Answer, Request, call, send_head};
use super::server::Server;

/// What goes wrong. Counts are over all requests, from 1 on; 0 is never.
#[derive(Clone, Default)]
pub struct Faults {
    /// Every so many-th request is answered by 503 or 429, in turn.
    pub busy_every: usize,
    /// Every request after the so many-th is answered by 503.
    pub busy_after: usize,
    /// Every so many-th answer to a GET with a body ends in the middle of it.
    pub cut_every: usize,
    /// Every so many-th PUT is done, but the connection ends without an answer.
    pub lose_every: usize,
    /// The store doesn't know If-None-Match.
    pub ignore_if_none_match: bool,
    /// Every request is refused with 403, in words that repeat the key.
    pub deny: bool,
    /// Objects whose target holds this word are refused with 403 where they are read; lists, and what
    /// is asked of an object without its bytes, are answered.
    pub deny_reading: Option<&'static str>,
    /// Answers are kept and given again: a store that is faster than the one behind.
    pub remember: bool,
    /// Each answer takes so much longer.
    pub delay: Duration,
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub range: Option<String>,
    /// What was answered; 0 where the answer was lost.
    pub status: u16,
    /// Bytes of the answer.
    pub bytes: usize,
}

#[derive(Default)]
struct State {
    faults: Mutex<Faults>,
    seen: Mutex<Vec<Seen>>,
    /// Answers by method, target and range.
    kept: Mutex<HashMap<String, Arc<Answer>>>,
    requests: AtomicUsize,
    gets: AtomicUsize,
    puts: AtomicUsize,
}

/// The proxy; gone when dropped.
pub struct Proxy {
    server: Server,
    state: Arc<State>,
}

impl Proxy {
    /// In front of what listens on `upstream`.
    pub fn before(upstream: u16) -> Proxy {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let server = Server::start(move |request, client| shared.pass(upstream, request, client));
        Proxy { server, state }
    }

    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// From here on these faults and no others.
    pub fn set(&self, faults: Faults) {
        *self.state.faults.lock().unwrap() = faults;
    }

    /// What came since this was asked last.
    pub fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.state.seen.lock().unwrap())
    }

    /// How many requests have come.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// From here on connections are refused.
    pub fn stop(&self) {
        self.server.stop();
    }

    /// Ends [`Proxy::stop`].
    pub fn again(&self) {
        self.server.again();
    }
}

/// Whether the so many-th event is one of every `every`.
fn hits(number: usize, every: usize) -> bool {
    every > 0 && number.is_multiple_of(every)
}

impl State {
    fn pass(&self, upstream: u16, request: &Request, client: &mut TcpStream) -> io::Result<bool> {
        let number = self.requests.fetch_add(1, Ordering::SeqCst) + 1;
        let faults = self.faults.lock().unwrap().clone();
        std::thread::sleep(faults.delay);
        let gone = faults.busy_after > 0 && number > faults.busy_after;
        if hits(number, faults.busy_every) || gone {
            let status = if number.is_multiple_of(2) { 503 } else { 429 };
            return self.answer(request, client, &refusal(status, "SlowDown", "slow down"), None);
        }
        if faults.deny {
            let given = request.header("authorization").unwrap_or_default();
            let refused = refusal(403, "InvalidAccessKeyId", &format!("no such key: {given}"));
            return self.answer(request, client, &refused, None);
        }
        let reads = request.method == "GET" && !request.target.contains('?');
        if faults.deny_reading.is_some_and(|word| reads && request.target.contains(word)) {
            return self.answer(request, client, &refusal(403, "AccessDenied", "no"), None);
        }
        let forgotten = |name: &str| faults.ignore_if_none_match && name == "if-none-match";
        let headers: Vec<_> =
            request.headers.iter().filter(|(name, _)| !forgotten(name)).cloned().collect();
        let ask = || call(upstream, &request.method, &request.target, &headers, &request.body);
        let answer = match faults.remember {
            true => self.remembered(request, ask)?,
            false => Arc::new(ask()?),
        };
        let lost = request.method == "PUT"
            && hits(self.puts.fetch_add(1, Ordering::SeqCst) + 1, faults.lose_every);
        if lost {
            self.record(request, 0, 0);
            return Ok(false);
        }
        let cuts = request.method == "GET"
            && !answer.body.is_empty()
            && hits(self.gets.fetch_add(1, Ordering::SeqCst) + 1, faults.cut_every);
        let end = cuts.then_some(answer.body.len() / 2);
        self.answer(request, client, &answer, end)
    }

    fn remembered(
        &self,
        request: &Request,
        ask: impl FnOnce() -> io::Result<Answer>,
    ) -> io::Result<Arc<Answer>> {
        let range = request.header("range").unwrap_or_default();
        let name = format!("{} {} {range}", request.method, request.target);
        if let Some(answer) = self.kept.lock().unwrap().get(&name) {
            return Ok(Arc::clone(answer));
        }
        let answer = Arc::new(ask()?);
        self.kept.lock().unwrap().insert(name, Arc::clone(&answer));
        Ok(answer)
    }

    /// Sends an answer, as far as `end`; says whether the connection goes on.
    fn answer(
        &self,
        request: &Request,
        client: &mut TcpStream,
        answer: &Answer,
        end: Option<usize>,
    ) -> io::Result<bool> {
        let promised = match request.method.as_str() {
            "HEAD" => answer.header("content-length").map_or(0, |text| text.parse().unwrap_or(0)),
            _ => answer.body.len(),
        };
        let body = &answer.body[..end.unwrap_or(answer.body.len())];
        self.record(request, answer.status, body.len());
        send_head(client, answer.status, &answer.headers, Some(promised))?;
        if request.method != "HEAD" {
            client.write_all(body)?;
        }
        Ok(end.is_none())
    }

    fn record(&self, request: &Request, status: u16, bytes: usize) {
        let (method, target) = (request.method.clone(), request.target.clone());
        let range = request.header("range").map(str::to_string);
        self.seen.lock().unwrap().push(Seen { method, target, range, status, bytes });
    }
}

/// As S3 says no.
fn refusal(status: u16, code: &str, message: &str) -> Answer {
    let text = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
    let kind = ("content-type".to_string(), "application/xml".to_string());
    Answer { status, headers: vec![kind], body: text.into_bytes() }
}
