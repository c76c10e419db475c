//! Owns the proof of `vqtok audit --html`: what is on the page, that its bytes follow from the
//! findings, what it refuses. Must not know: how findings come about.

use std::fs;

use crate::support::Job;

/// 12 images and copies of two, one of them under another label; tokens of all, and of two of them as
/// another set.
fn audited() -> Job {
    let job = Job::new(12);
    // Long enough for pictures of tokens to show something.
    let recipe = fs::read_to_string(job.path("tiny.toml")).unwrap();
    fs::write(job.path("tiny.toml"), recipe.replace("steps = 4", "steps = 150")).unwrap();
    let job = job.trained();
    for (from, to) in
        [("images/cat/0001.bmp", "images/dog/copy.bmp"), ("images/0000.png", "images/twin.png")]
    {
        fs::copy(job.path(from), job.path(to)).unwrap();
    }
    fs::create_dir(job.path("test")).unwrap();
    for name in ["cat/0001.bmp", "cat/0004.png"] {
        let to = job.path("test").join(name.replace('/', "-"));
        fs::copy(job.path("images").join(name), to).unwrap();
    }
    job.expect(0, "tokenize images --model model --out tokens");
    job.expect(0, "tokenize test --model model --out tokens-test");
    job
}

fn page(job: &Job, name: &str) -> String {
    fs::read_to_string(job.path(name)).unwrap()
}

/// The keys of the first group whose pictures are shown beside each other.
fn members(job: &Job, name: &str) -> Vec<String> {
    let found: serde_json::Value = serde_json::from_str(&page(job, name)).unwrap();
    let groups = found["duplicates"].as_array().unwrap();
    let apart = |group: &&serde_json::Value| group["kind"] == "near";
    let group = groups.iter().find(apart).expect("some pictures of tokens are alike");
    let members = group["members"].as_array().unwrap().iter().take(8);
    members.map(|member| member["key"].as_str().unwrap().to_string()).collect()
}

#[test]
fn the_page_shows_what_was_found_with_pictures() {
    let job = audited();
    let said = job.expect(1, "audit tokens --html bare.html").stdout;
    assert!(said.contains("14 images looked at; bare.html: ") && said.contains("KiB"), "{said}");
    let bare = page(&job, "bare.html");
    assert!(!bare.contains("<img") && bare.contains("There are no pictures"), "{bare}");
    assert!(bare.contains("<code>--source</code>") && bare.contains("<code>--remove-list</code>"));
    assert!(bare.contains("dog/<wbr>copy.bmp"));
    job.expect(1, "audit tokens --model model --html drawn.html --json drawn.json");
    let (drawn, members) = (page(&job, "drawn.html"), members(&job, "drawn.json"));
    assert!(drawn.contains("drawn from the tokens") && members.len() > 1);
    for key in &members {
        assert!(drawn.contains(&format!("alt=\"{key}\"")), "{key}");
    }
    job.expect(1, "audit tokens --source images --html source.html");
    let source = page(&job, "source.html");
    assert!(source.contains("the images themselves") && source.contains("alt=\"cat/0001.bmp\""));
    assert!(source.contains("alt=\"dog/copy.bmp\""), "both labels of one picture are shown");
    // What the source lacks is drawn.
    fs::remove_file(job.path("images").join(&members[1])).unwrap();
    job.expect(1, "audit tokens --source images --model model --html both.html");
    let both = page(&job, "both.html");
    assert!(both.contains("those that the source lacks"));
    assert!(both.contains(&format!("alt=\"{}\"", members[1])), "{}", members[1]);
    // A source that has none of them costs the pictures alone.
    fs::write(job.path("images/cat/0001.bmp"), b"no image").unwrap();
    job.expect(1, "audit tokens --source images/cat --html none.html");
    assert!(page(&job, "none.html").contains("There are no pictures"));
}

#[test]
fn the_same_findings_give_the_same_bytes() {
    let job = audited();
    let line = "audit tokens --against tokens-test --model model --source images";
    job.expect(1, &format!("{line} --html a.html --threads 1"));
    job.expect(1, &format!("{line} --html b.html --threads 3"));
    assert_eq!(page(&job, "a.html"), page(&job, "b.html"));
    assert!(page(&job, "a.html").contains("held against 2 images of tokens-test"));
    // A page of an earlier run gives way, a file of somebody else doesn't.
    job.expect(1, &format!("{line} --html a.html"));
    fs::write(job.path("mine.html"), "<html>mine").unwrap();
    job.expect(2, &format!("{line} --html mine.html"))
        .assert_one_line(&["mine.html", "--overwrite"]);
    assert_eq!(page(&job, "mine.html"), "<html>mine");
    job.expect(1, &format!("{line} --html mine.html --overwrite"));
    job.expect(2, &format!("{line} --html a.json")).assert_one_line(&["--html", "a.html"]);
    let gone = "audit tokens --source nowhere --html c.html";
    job.expect(2, gone).assert_one_line(&["nowhere"]);
}

#[test]
fn the_old_command_draws_the_part_about_the_codebook() {
    let job = audited();
    job.expect(0, "report tokens --out page.html");
    job.expect(1, "audit tokens --html audit.html");
    let (report, audit) = (page(&job, "page.html"), page(&job, "audit.html"));
    let part = |page: &str| {
        let from = page.find("<section id=codebook>").unwrap();
        page[from..from + page[from..].find("</section>").unwrap()].to_string()
    };
    assert_eq!(part(&report), part(&audit));
    assert!(part(&report).contains("Uses by rank"));
}
