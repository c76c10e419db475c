//! Owns the proof that names of files, which anybody can choose, neither steer the terminal nor
//! break a line, whichever command prints them. Must not know: what the commands do.

use crate::support::Job;

/// A name that clears the screen, sets the window's title, ends the line, rings the bell and turns
/// the reading direction around.
const NAME: &str = "a\u{1b}[2Jb\u{1b}]0;title\u{7}c\nd\re\u{9b}1mf\u{202e}gnp";
/// How it is printed.
const PRINTED: &str = "a\\u{1b}[2Jb\\u{1b}]0;title\\u{7}c\\nd\\re\\u{9b}1mf\\u{202e}gnp";

fn steers(c: char) -> bool {
    c != '\n' && (c.is_control() || c == '\u{202e}')
}

/// Runs `line`, where `@` stands for the name, and returns what it printed.
fn printed(job: &Job, code: i32, line: &str) -> String {
    let mut command = job.command("");
    command.args(line.split(' ').map(|word| word.replace('@', NAME)));
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).expect("what is printed is text");
    assert_eq!(output.status.code(), Some(code), "{line}: {text:?}");
    assert!(!text.contains(steers), "{line}: {text:?}");
    text
}

#[test]
fn no_name_steers_the_terminal() {
    let job = Job::new(4).trained();
    let folder = job.path("images").join(NAME);
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join(format!("{NAME}.png")), b"\x89PNG\r\n\x1a\nno chunks").unwrap();
    let failed = format!("failed: {PRINTED}/{PRINTED}.png: decode: PNG: ");
    let text = printed(&job, 1, "tokenize images --model model --out @");
    assert!(text.lines().any(|line| line.starts_with(&failed)), "{text}");
    let text = printed(&job, 1, "tokenize images --model model --out @ --retry-failed");
    assert!(text.lines().any(|line| line.starts_with(&failed)), "{text}");
    let text = printed(&job, 2, "tokenize images --model model --out other --on-error stop");
    assert!(text.contains(&format!("vqtok: {PRINTED}/{PRINTED}.png: decode: PNG: ")), "{text}");
    printed(&job, 0, "verify @");
    printed(&job, 0, "inspect @");
    printed(&job, 0, "decode @ --model model --out pictures");
    let text = printed(&job, 1, "reconstruct images --model model --out sheet.png --count 9");
    assert!(text.lines().any(|line| line.starts_with(&failed)), "{text}");
    printed(&job, 0, "report @ --out page.html");
    let page = std::fs::read_to_string(job.path("page.html")).unwrap();
    assert!(page.contains(PRINTED) && !page.contains(steers));
    // Where the name is that of what is missing.
    for line in ["verify @/none", "inspect @/none", "tokenize @/none --model model --out o2"] {
        assert!(printed(&job, 2, line).contains(PRINTED), "{line}");
    }
    std::fs::write(job.path(NAME).join(NAME), b"").unwrap();
    assert!(printed(&job, 1, "verify @").contains(PRINTED));
}

#[test]
fn places_whose_names_are_no_text_work_in_every_command() {
    use std::os::unix::ffi::OsStrExt;
    let job = Job::new(6);
    let odd = std::ffi::OsStr::from_bytes(b"q\xff");
    std::fs::create_dir(job.path("there")).unwrap();
    let place = job.path("there").join(odd);
    std::fs::create_dir(&place).unwrap();
    std::fs::rename(job.path("images"), place.join("images")).unwrap();
    std::fs::copy(job.path("tiny.toml"), place.join("tiny.toml")).unwrap();
    let at = |name: &str| place.join(name);
    let run = |line: &[&std::ffi::OsStr], json: bool| {
        let mut command = job.command("");
        command.args(line);
        if json {
            command.arg("--json");
        }
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{line:?}: {told}");
        for event in output.stdout.split(|&byte| byte == b'\n').filter(|e| json && !e.is_empty()) {
            serde_json::from_slice::<serde_json::Value>(event).unwrap();
        }
    };
    let word = std::ffi::OsStr::new;
    for json in [false, true] {
        let (model, out) = (at(&format!("model{json}")), at(&format!("out{json}")));
        let (images, pictures) = (at("images"), at(&format!("pictures{json}")));
        let (sheet, page) = (at(&format!("{json}.png")), at(&format!("{json}.html")));
        let (images, pictures) = (images.as_os_str(), pictures.as_os_str());
        let (model, out, copy) = (model.as_os_str(), out.as_os_str(), at(&format!("copy{json}")));
        let recipe = job.path("tiny.toml");
        let (m, o) = (word("--model"), word("--out"));
        run(&[word("train"), images, m, model, word("--recipe"), recipe.as_os_str()], json);
        run(&[word("train"), images, m, model, word("--resume")], json);
        run(&[word("tokenize"), images, m, model, o, out], json);
        run(&[word("tokenize"), images, m, model, o, out], json);
        run(&[word("finalize"), out], json);
        run(&[word("verify"), out], json);
        run(&[word("inspect"), out], json);
        run(&[word("inspect"), model], json);
        run(&[word("repair"), out, m, model], json);
        run(&[word("decode"), out, m, model, o, pictures], json);
        run(&[word("reconstruct"), images, m, model, o, sheet.as_os_str()], json);
        run(&[word("report"), out, o, page.as_os_str()], json);
        run(&[word("convert"), model, o, copy.as_os_str()], json);
    }
}
