//! Owns moto's server, an S3 in memory: one for all tests of a program, with a bucket for each test.

use std::io;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::http::{Answer, call};

/// A running server.
pub struct Moto {
    pub port: u16,
    /// The server ends when the standard input of this is closed, as it is with the tests' process.
    _lifeline: Mutex<Child>,
}

/// Starts the server `$0` on the port `$1` and ends it with the standard input.
const UNTIL_EOF: &str = "\"$0\" -H 127.0.0.1 -p \"$1\" & server=$!; read -r _; kill $server";

const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=TESTS/20260101/us-east-1/s3/aws4_request, \
                             SignedHeaders=host, Signature=0";

impl Moto {
    /// The server; None after saying so on stderr where it isn't installed.
    ///
    /// # Panics
    /// Where there is none and `VQTOK_REQUIRE_SHARED=1`, as CI sets it.
    pub fn get() -> Option<&'static Moto> {
        static MOTO: OnceLock<Option<Moto>> = OnceLock::new();
        let moto = MOTO.get_or_init(Moto::start).as_ref();
        if moto.is_none() {
            if std::env::var("VQTOK_REQUIRE_SHARED").is_ok_and(|v| v == "1") {
                panic!("VQTOK_REQUIRE_SHARED=1 but moto_server is not there; VQTOK_MOTO names it");
            }
            eprintln!("skipped: moto_server is not there (VQTOK_MOTO)");
        }
        moto
    }

    fn start() -> Option<Moto> {
        let program = std::env::var("VQTOK_MOTO").unwrap_or("moto_server".into());
        let quiet = |command: &mut Command| {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        };
        let mut help = Command::new(&program);
        quiet(help.arg("--help"));
        help.status().ok().filter(|status| status.success())?;
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let mut command = Command::new("sh");
        command.args(["-c", UNTIL_EOF, &program, &port.to_string()]).stdin(Stdio::piped());
        quiet(&mut command);
        let moto = Moto { port, _lifeline: Mutex::new(command.spawn().unwrap()) };
        let deadline = Instant::now() + Duration::from_secs(60);
        while moto.call("GET", "/", &[]).is_err() {
            assert!(Instant::now() < deadline, "{program} doesn't answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(moto)
    }

    fn call(&self, method: &str, target: &str, body: &[u8]) -> io::Result<Answer> {
        let headers = [
            ("content-type".to_string(), "application/octet-stream".to_string()),
            // What a user has put isn't shown to nobody; whose name it is doesn't matter.
            ("authorization".to_string(), AUTHORIZATION.to_string()),
        ];
        call(self.port, method, target, &headers, body)
    }

    fn expect(&self, method: &str, target: &str, body: &[u8]) -> Vec<u8> {
        let answer = self.call(method, target, body).unwrap();
        assert!(
            (200..300).contains(&answer.status),
            "{method} {target}: {} {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
        answer.body
    }

    /// Makes a new bucket.
    pub fn bucket(&self, name: &str) {
        self.expect("PUT", &format!("/{name}"), b"");
    }

    /// Puts an object, `bucket/key`.
    pub fn put(&self, place: &str, bytes: &[u8]) {
        self.expect("PUT", &format!("/{}", encoded(place)), bytes);
    }

    /// An object's bytes.
    pub fn get_object(&self, place: &str) -> Vec<u8> {
        self.expect("GET", &format!("/{}", encoded(place)), b"")
    }

    /// Removes an object.
    pub fn remove(&self, place: &str) {
        self.expect("DELETE", &format!("/{}", encoded(place)), b"");
    }

    /// The keys in a bucket below a prefix, sorted; every page of them.
    pub fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let (mut keys, mut after) = (Vec::new(), String::new());
        loop {
            let (prefix, after_key) = (encoded(prefix), encoded(&after));
            let target = format!("/{bucket}?list-type=2&prefix={prefix}&start-after={after_key}");
            let page = String::from_utf8(self.expect("GET", &target, b"")).unwrap();
            let parts = page.split("<Key>").skip(1);
            keys.extend(parts.map(|part| part.split("</Key>").next().unwrap().to_string()));
            match keys.last() {
                Some(last) if page.contains("<IsTruncated>true</IsTruncated>") => {
                    after.clone_from(last);
                }
                _ => return keys,
            }
        }
    }

    /// Every object below a prefix, by what follows the prefix, with its bytes.
    pub fn files(&self, bucket: &str, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let name = |key: &String| key[prefix.len()..].to_string();
        let file = |key: String| (name(&key), self.get_object(&format!("{bucket}/{key}")));
        self.keys(bucket, prefix).into_iter().map(file).collect()
    }
}

/// Percent-encoded, `/` left alone.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let of = |byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(of).collect()
}
