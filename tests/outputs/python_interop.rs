//! Has Python's readers read an output of the library. Needs a Python with the packages of
//! `tests/interop/requirements.txt`: named by `VQTOK_PYTHON`, which CI sets; without it the test
//! says that it was skipped.

use crate::support::outputs;

use vqtok::internals::tokens::{
    CommitMode, LevelLayout, Outcome, PartitionWriter, Plan, PlanRow, TokenGrid,
};

#[test]
fn python_reads_what_was_written() {
    let Some(python) = std::env::var_os("VQTOK_PYTHON") else {
        eprintln!("skipped: VQTOK_PYTHON names no Python with tests/interop/requirements.txt");
        return;
    };
    let root = tempfile::tempdir().unwrap();
    let fixed = root.path().join("fixed");
    outputs::job(&fixed, 300, 128).unwrap();
    let varying = root.path().join("varying");
    write_varying(&varying);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/read_output.py");
    let residual = root.path().join("residual");
    write_residual(&residual);
    let [numbers, lists] = [26, 40].map(|bits| root.path().join(format!("bits{bits}")));
    write_bits(&numbers, LevelLayout::new(1 << 26, None));
    write_bits(&lists, LevelLayout::of_bits(40, Some([2, 3])));
    for out in [fixed, varying, residual, numbers, lists] {
        let run = std::process::Command::new(&python).arg(script).arg(&out).output().unwrap();
        let (stdout, stderr) =
            (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        assert!(run.status.success(), "{}: {stdout}{stderr}", out.display());
    }
}

/// Grids that vary, codes beyond 16 bits, a second level, no distances; the last partition has no
/// rows at all.
fn write_varying(out: &std::path::Path) {
    let mut identity = outputs::identity(3);
    identity.tokenizer.codes = 262_144;
    identity.levels = vec![LevelLayout::new(262_144, None), LevelLayout::new(512, Some([1, 2]))];
    let uri = |ordinal| format!("file:///data/class/{ordinal}.png");
    let row = |ordinal| PlanRow {
        ordinal,
        key: format!("class/{ordinal}.png"),
        uri: uri(ordinal),
        bytes: 9,
        ..PlanRow::default()
    };
    // Image 4 fails, and is alone in the last partition.
    let order = [0, 1, 2, 4];
    let rows =
        order.iter().enumerate().map(|(i, &image)| Ok(PlanRow { ordinal: i as i64, ..row(image) }));
    let plan = Plan::create_or_open(out, &identity, rows, 3).unwrap();
    for partition in 0..plan.partitions() {
        let mut writer = PartitionWriter::create(&plan, partition, CommitMode::New).unwrap();
        for ordinal in plan.ordinals(partition).unwrap() {
            let outcome = match outputs::outcome(order[ordinal as usize]) {
                Outcome::Failed(mut row) => {
                    row.ordinal = ordinal;
                    Outcome::Failed(row)
                }
                Outcome::Written(mut row) => {
                    let width = ordinal as i32 + 1;
                    let codes = (0..2 * width as u32).map(|i| 262_143 - i).collect();
                    row.levels[0] = TokenGrid { codes, distances: Vec::new(), height: 2, width };
                    let (codes, distances) = (vec![511, ordinal as u32], Vec::new());
                    row.levels.push(TokenGrid { codes, distances, height: 1, width: 2 });
                    Outcome::Written(row)
                }
            };
            writer.push(outcome).unwrap();
        }
        writer.close().unwrap();
    }
    vqtok::internals::tokens::finalize(out).unwrap();
}

/// Codes of so many bits that these are counted.
fn write_bits(out: &std::path::Path, level: LevelLayout) {
    let mut identity = outputs::identity(20);
    let (codes, values) = (level.codes, level.values());
    (identity.tokenizer.codes, identity.levels) = (codes, vec![level]);
    let row = |ordinal| PlanRow {
        ordinal,
        key: format!("class/{ordinal}.png"),
        uri: format!("file:///data/class/{ordinal}.png"),
        bytes: 9,
        ..PlanRow::default()
    };
    let plan = Plan::create_or_open(out, &identity, (0..12).map(|i| Ok(row(i))), 20).unwrap();
    let mut writer = PartitionWriter::create(&plan, 0, CommitMode::New).unwrap();
    for ordinal in 0..12 {
        let mut outcome = outputs::outcome(ordinal);
        if let Outcome::Written(row) = &mut outcome {
            let code = |at: u64| (at * 2_654_435_761 + ordinal as u64 * 97) >> 3;
            let codes = (0..6 * values as u64).map(|at| (code(at) % codes) as u32).collect();
            row.levels[0] = TokenGrid { codes, distances: Vec::new(), height: 2, width: 3 };
        }
        writer.push(outcome).unwrap();
    }
    writer.close().unwrap();
    vqtok::internals::tokens::finalize(out).unwrap();
}

/// Two residual levels after the first.
fn write_residual(out: &std::path::Path) {
    let mut identity = outputs::identity(20);
    let deeper = LevelLayout { residual: true, ..identity.levels[0].clone() };
    identity.levels.extend([deeper.clone(), deeper]);
    let row = |ordinal| PlanRow {
        ordinal,
        key: format!("class/{ordinal}.png"),
        uri: format!("file:///data/class/{ordinal}.png"),
        bytes: 9,
        ..PlanRow::default()
    };
    let plan = Plan::create_or_open(out, &identity, (0..12).map(|i| Ok(row(i))), 20).unwrap();
    let mut writer = PartitionWriter::create(&plan, 0, CommitMode::New).unwrap();
    for ordinal in 0..12 {
        let mut outcome = outputs::outcome(ordinal);
        if let Outcome::Written(row) = &mut outcome {
            for level in 1..3 {
                let mut grid = row.levels[0].clone();
                grid.codes.iter_mut().for_each(|k| *k = (*k * 5 + level) % outputs::CODES as u32);
                row.levels.push(grid);
            }
        }
        writer.push(outcome).unwrap();
    }
    writer.close().unwrap();
    vqtok::internals::tokens::finalize(out).unwrap();
}
