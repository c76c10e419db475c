//! Runs jobs on a terminal of 60 columns, as a pseudoterminal: what a bar draws fits one line, its
//! rates are plain, lines are told above it untorn, and nothing of it is left at the end.

use crate::support::*;

use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::Stdio;

const COLUMNS: usize = 60;

/// What a terminal shows: lines, of which the last `height` can be reached by the cursor.
#[derive(Default)]
struct Screen {
    lines: Vec<Vec<char>>,
    row: usize,
    column: usize,
    wraps: usize,
    /// Every state of a line that a bar was drawn on.
    bars: Vec<String>,
}

impl Screen {
    fn show(&mut self, text: &str) {
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\r' => self.column = 0,
                '\n' => {
                    self.keep_bar();
                    self.row += 1;
                }
                '\u{1b}' => {
                    assert_eq!(chars.next(), Some('['), "another escape sequence");
                    let mut number = String::new();
                    while let Some(c) = chars.next_if(|c| c.is_ascii_digit() || ";?".contains(*c)) {
                        number.push(c);
                    }
                    self.obey(chars.next().unwrap(), number.parse().unwrap_or(1));
                }
                c => self.put(c),
            }
        }
    }

    fn obey(&mut self, command: char, number: usize) {
        match command {
            'A' => self.row -= number,
            'B' => self.row += number,
            'G' => self.column = number - 1,
            // Of this line, or of all below it.
            'K' | 'J' => {
                self.keep_bar();
                let row = self.row;
                self.line().clear();
                if command == 'J' {
                    self.lines.truncate(row + 1);
                }
            }
            'm' | 'h' | 'l' => {}
            other => panic!("another command: {other}"),
        }
    }

    fn put(&mut self, c: char) {
        if self.column == COLUMNS {
            (self.row, self.column) = (self.row + 1, 0);
            self.wraps += 1;
        }
        let column = self.column;
        let line = self.line();
        line.resize(line.len().max(column + 1), ' ');
        line[column] = c;
        self.column += 1;
    }

    fn line(&mut self) -> &mut Vec<char> {
        let row = self.row;
        self.lines.resize(self.lines.len().max(row + 1), Vec::new());
        &mut self.lines[row]
    }

    fn keep_bar(&mut self) {
        // indicatif fills its line with blanks.
        let text: String = self.line().iter().collect();
        let text = text.trim_end().to_string();
        if text.contains('[') && text.contains(']') {
            self.bars.push(text);
        }
    }
}

/// Runs `line` with stderr on a terminal; what it told there.
fn on_terminal(job: &Job, line: &str) -> (i32, String) {
    let (mut ours, mut theirs) = (0, 0);
    let size = libc::winsize { ws_row: 24, ws_col: COLUMNS as u16, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the two places take a descriptor each; no name and no settings are asked for.
    let made = unsafe {
        libc::openpty(&mut ours, &mut theirs, std::ptr::null_mut(), std::ptr::null(), &size)
    };
    assert_eq!(made, 0, "no pseudoterminal");
    // SAFETY: both were just made, and nobody else has them.
    let (ours, theirs) = unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
    let mut command = job.command(line);
    command.env("TERM", "xterm").env_remove("NO_COLOR").stdout(Stdio::null()).stderr(theirs);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut told = Vec::new();
    // Ends with EIO, once nobody has the other side any more.
    let _ = File::from(ours).read_to_end(&mut told);
    (child.wait().unwrap().code().unwrap(), String::from_utf8(told).unwrap())
}

fn shown(told: &str) -> Screen {
    let mut screen = Screen::default();
    screen.show(told);
    screen
}

#[test]
fn a_bar_fits_its_terminal_and_leaves_nothing() {
    let job = Job::new(400).trained();
    std::fs::write(job.path("images/cat/broken.png"), b"\x89PNG").unwrap();
    let (code, told) =
        on_terminal(&job, "tokenize images --model model --out out --batch-size 1 --threads 1");
    assert_eq!(code, 1, "{told}");
    let screen = shown(&told);
    assert!(screen.bars.len() > 1, "no bar was drawn: {told:?}");
    for bar in &screen.bars {
        assert!(bar.starts_with("tokenize [") && bar.chars().count() < COLUMNS, "{bar}");
        assert!(bar.contains("/401") && !bar.contains('.') || bar.contains(" s"), "{bar}");
    }
    let moving = screen.bars.iter().find(|bar| bar.contains("/s"));
    let rate = moving.and_then(|bar| bar.split_whitespace().find(|word| word.ends_with("/s")));
    let rate = rate.unwrap_or_else(|| panic!("no rate: {:?}", screen.bars));
    let digits = |c: char| c.is_ascii_digit() || c == ',' || c == '.';
    assert!(rate.trim_end_matches("/s").chars().all(digits) && rate.len() < 9, "{rate}");
    // Lines of sentences may wrap; the bar is nowhere in them.
    let left: Vec<String> = screen.lines.iter().map(|line| line.iter().collect()).collect();
    let left: Vec<&str> = left.iter().map(|line| line.trim_end()).collect();
    let all = left.join("");
    assert!(!all.contains("tokenize [") && !all.contains("=>"), "{left:#?}");
    assert!(all.contains("401 images in 1 partition, none skipped"), "{left:#?}");
    assert!(all.contains("failed: cat/broken.png: decode: "), "{left:#?}");
}

#[test]
fn the_bar_of_a_training_fits_too() {
    let job = Job::new(30);
    std::fs::write(job.path("long.toml"), TINY_RECIPE.replace("steps = 4", "steps = 200")).unwrap();
    let (code, told) = on_terminal(&job, "train images --model model --recipe long.toml");
    assert_eq!(code, 0, "{told}");
    let screen = shown(&told);
    assert!(screen.bars.iter().any(|bar| bar.contains("/200")), "{:?}", screen.bars);
    for bar in &screen.bars {
        assert!(bar.chars().count() < COLUMNS, "{bar}");
    }
    let left: String = screen.lines.iter().flatten().collect();
    assert!(!left.contains("train [") && left.contains("trained model: PSNR"), "{left}");
}

#[test]
fn nothing_is_drawn_where_no_line_can_be_taken_back() {
    let job = Job::new(60).trained();
    let done = job.expect(0, "tokenize images --model model --out out --batch-size 1");
    assert!(!done.stderr.contains(['\r', '\u{1b}', '[']), "{:?}", done.stderr);
    let mut command = job.command("tokenize images --model model --out dumb");
    command.env("TERM", "dumb");
    assert!(command.output().unwrap().stderr.iter().all(|byte| *byte != b'\x1b'));
}
