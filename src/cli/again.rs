//! Owns the command that goes on with an interrupted one, as a shell takes it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// The command line `arguments`, the program's name first, with `more` flags at its end.
pub(super) fn line(arguments: impl Iterator<Item = OsString>, more: &[&str]) -> String {
    let mut words: Vec<String> = arguments.map(|word| quoted(&word)).collect();
    // Flags behind a `--` would be inputs.
    let at = words.iter().position(|word| word == "--").unwrap_or(words.len());
    words.splice(at..at, more.iter().map(|flag| flag.to_string()));
    words.join(" ")
}

/// A word that a shell reads as these bytes.
fn quoted(word: &OsStr) -> String {
    let bytes = word.as_bytes();
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_./=:,+@%".contains(b);
    match word.to_str() {
        Some(text) if !bytes.is_empty() && bytes.iter().all(plain) => text.to_string(),
        Some(text) if !text.chars().any(char::is_control) => {
            format!("'{}'", text.replace('\'', "'\\''"))
        }
        _ => {
            let mut out = String::from("$'");
            for &b in bytes {
                match b {
                    b'\'' | b'\\' => out.extend(['\\', char::from(b)]),
                    b' '..=b'~' => out.push(char::from(b)),
                    _ => out.push_str(&format!("\\{b:03o}")),
                }
            }
            out + "'"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_same_words() {
        let words: Vec<OsString> = [
            &b"vqtok"[..],
            b"train",
            b"my photos/it's",
            b"",
            b"$HOME;`ls`*",
            "bl\u{fc}te".as_bytes(),
            b"line\nbreak\\'",
            b"\xff\x801",
            b"--model=a-b_c.d",
        ]
        .map(|bytes| OsStr::from_bytes(bytes).to_owned())
        .into();
        let line = line(words.clone().into_iter(), &["--resume"]);
        let script = format!("printf '%s\\0' {line}");
        let Ok(shell) = std::process::Command::new("bash").arg("-c").arg(&script).output() else {
            eprintln!("no bash here: skipped");
            return;
        };
        let read: Vec<&[u8]> = shell.stdout.split(|b| *b == 0).collect();
        let expected: Vec<&[u8]> =
            words.iter().map(|w| w.as_bytes()).chain([&b"--resume"[..], b""]).collect();
        assert_eq!(read, expected, "{line}");
    }

    #[test]
    fn flags_stand_before_the_end_of_flags() {
        let words = ["vqtok", "train", "--model", "m", "--", "-x"].map(OsString::from);
        let line = line(words.into_iter(), &["--resume"]);
        assert_eq!(line, "vqtok train --model m --resume -- -x");
    }
}
