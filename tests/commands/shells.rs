//! Drives what a shell and `man` get: scripts that complete, pages that say what `--help` says.

use crate::support::*;

use std::process::Command;

#[test]
fn every_shell_gets_a_script_with_every_command() {
    let job = Job::new(0);
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = job.expect(0, &format!("completions {shell}")).stdout;
        for word in ["tokenize", "export", "recipe", "completions", "batch-size"] {
            assert!(script.contains(word), "{shell}: no {word}");
        }
        let event = &job.expect(0, &format!("completions {shell} --json")).events("completions")[0];
        assert_eq!(event["shell"], shell);
        assert_eq!(event["script"].as_str().map(str::trim_end), Some(script.trim_end()));
    }
    assert!(job.expect(2, "completions csh").stderr.contains("possible values: bash"));
}

#[test]
fn bash_completes_commands_and_flags() {
    let job = Job::new(0);
    let script = job.expect(0, "completions bash").stdout;
    let complete = |line: &str| {
        let words = line.split(' ').count();
        let said = format!(
            "{script}\nCOMP_WORDS=({line})\n[ {words} = ${{#COMP_WORDS[@]}} ] || COMP_WORDS+=('')\n\
             COMP_CWORD={}\n_vqtok vqtok \"${{COMP_WORDS[COMP_CWORD]}}\" ''\necho ${{COMPREPLY[@]}}",
            words - 1
        );
        let done = Command::new("bash").arg("-c").arg(said).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim_end().to_string()
    };
    assert_eq!(complete("vqtok tok"), "tokenize");
    assert_eq!(complete("vqtok re"), "reconstruct recipe repair report");
    assert_eq!(complete("vqtok recipe s"), "show suggest");
    assert_eq!(complete("vqtok tokenize --retry"), "--retry-failed");
}

#[test]
fn manual_pages_say_what_help_says() {
    let job = Job::new(0);
    let done = job.expect(0, "man --out pages");
    let pages = job.files("pages");
    let names: Vec<&str> = pages.iter().map(|(name, _)| &**name).collect();
    for name in ["vqtok.1", "vqtok-tokenize.1", "vqtok-recipe.1", "vqtok-recipe-show.1"] {
        assert!(names.contains(&name), "{name} isn't among {names:?}");
    }
    assert_eq!(done.stdout, format!("pages: {} pages\n", names.len()));
    let commands: Vec<_> = vqtok::internals::cli::command_line()
        .get_subcommands()
        .map(|command| format!("vqtok-{}.1", command.get_name()))
        .collect();
    assert!(commands.iter().all(|name| names.contains(&&**name)), "{commands:?}");
    let page = std::fs::read_to_string(job.path("pages/vqtok-tokenize.1")).unwrap();
    let page = page.replace("\\-", "-").replace("\\ ", " ");
    for said in [
        "vqtok-tokenize - Turn images into token shards",
        "--retry-failed",
        concat!("\"vqtok ", env!("CARGO_PKG_VERSION"), "\""),
    ] {
        assert!(page.contains(said), "no {said} in\n{page}");
    }
    job.expect(0, "man --out pages");
    assert!(pages == job.files("pages"), "a second run writes other pages");
}

#[test]
fn a_page_of_somebody_else_stays() {
    let job = Job::new(0);
    std::fs::create_dir(job.path("pages")).unwrap();
    std::fs::write(job.path("pages/vqtok-train.1"), b"mine").unwrap();
    job.expect(2, "man --out pages").assert_one_line(&["vqtok-train.1", "--overwrite"]);
    assert_eq!(job.files("pages").len(), 1, "pages were written before the refusal");
    job.expect(0, "man --out pages --overwrite");
    std::fs::write(job.path("file"), b"mine").unwrap();
    job.expect(2, "man --out file").assert_one_line(&["file"]);
    job.expect(2, "man --out s3://bucket/pages").assert_one_line(&["s3://bucket/pages"]);
}
