//! Owns the way to a peer: a Python process that does the same work and tells what it cost.
//! Must not know: the work.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A peer's process: told a number of images, it answers with CPU and wall seconds.
pub struct Peer {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts a script of `benches/peers`; None where it can't (no such interpreter or package).
    pub fn start(python: &Path, script: &str, args: &[String], threads: usize) -> Option<Peer> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers").join(script);
        let mut child = Command::new(python)
            .arg(script)
            .args(args)
            // Fresh pages cost PyTorch a third: compare with its tuned form.
            .env("MALLOC_MMAP_THRESHOLD_", "4294967296")
            .env("MALLOC_TRIM_THRESHOLD_", "17179869184")
            .env("OMP_NUM_THREADS", threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let (to, from) = (child.stdin.take()?, BufReader::new(child.stdout.take()?));
        let mut peer = Peer { child, to, from };
        let ready = peer.line();
        if ready.trim() != "ready" {
            let _ = peer.child.kill();
            let _ = peer.child.wait();
            return None;
        }
        Some(peer)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let _ = self.from.read_line(&mut line);
        line
    }

    /// Sends a line and reads the numbers of the answer.
    pub fn ask(&mut self, what: &str) -> Vec<f64> {
        writeln!(self.to, "{what}").expect("the peer is alive");
        self.line().split_whitespace().map(|word| word.parse().expect("a number")).collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
