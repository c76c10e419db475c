//! Holds the whole job for codes that are too many to be counted: numbers of 26 bits and lists of 40, as
//! Infinity's larger tokenizers give them. Must not know: other quantizers (`tests/quantizers.rs`).

mod support;
#[path = "support/weights.rs"]
mod weights;

use support::Job;

#[test]
fn bits_go_the_whole_way() {
    let job = Job::new(9);
    for bits in [26, 40] {
        let name = format!("m{bits}.safetensors");
        std::fs::write(job.path(&name), weights::safetensors(&weights::infinity(bits, 7))).unwrap();
        let model = format!("--model {name} --scales 1x1,2x2,8x8");
        let said = job.expect(0, &format!("inspect {name}"));
        println!("{}", said.stdout);
        let said = job.expect(0, &format!("tokenize images {model} --size 16 --out out{bits}"));
        println!("{} {}", said.stdout, said.stderr);
        for line in [
            "verify OUT",
            "inspect OUT",
            "report OUT --out r.html --json",
            "decode OUT MODEL --out pictures",
            "audit OUT --html a.html --json a.json",
            "audit OUT MODEL --html a.html --json a.json --codes c.png",
            "diff OUT OUT --json d.json",
        ] {
            let line = line.replace("OUT", &format!("out{bits}")).replace("MODEL", &model);
            let said = job.run(&line);
            println!("$ {line}: {}\n{} {}", said.code, said.stdout, said.stderr);
        }
        for to in [
            "npy",
            "jsonl",
            "hf",
            "webdataset",
            "llamagen",
            "flat",
            "emu3",
            "open-muse",
            "4m",
            "mds",
            "litdata",
            "megatron",
            "tfrecord",
        ] {
            let line = format!("export out{bits} --to {to} --out x{bits}-{to}");
            let said = job.run(&line);
            println!("$ {line}: {}\n{} {}", said.code, said.stdout, said.stderr);
        }
    }
    let _ = std::process::Command::new("cp")
        .args(["-r"])
        .arg(job.path(""))
        .arg("/tmp/w18s/job")
        .status();
}
