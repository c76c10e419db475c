//! Tests of plans of buckets: sorted by these, compared in the order of the inputs.

use super::*;
use crate::tokens::rows::Bucket;

const SIZES: [(u32, u32); 3] = [(8, 8), (8, 4), (4, 8)];

fn of_buckets() -> Identity {
    let mut identity = identity(16, None, 10);
    identity.preprocessing.buckets = Some("8x8,8x4,4x8".into());
    identity.preprocessing.size = None;
    identity
}

/// An image of a container of thirty.
fn image(position: i64) -> PlanRow {
    let (width, height) = SIZES[(position * position % 7 % 3) as usize];
    PlanRow {
        ordinal: position,
        key: format!("k{position:03}"),
        uri: format!("file:///a/{}.tar", position / 30),
        bytes: 7,
        member: Some("m".into()),
        offset: Some(position % 30),
        caption: (position % 4 == 0).then(|| format!("caption {position}")),
        bucket: Some(Bucket { width, height, position }),
        ..PlanRow::default()
    }
}

fn images() -> Vec<PlanRow> {
    (0..90).map(image).collect()
}

/// As they are found when they are compared: in no bucket.
fn found(plan: Option<&Plan>, unchanged: &[usize]) -> Vec<Today> {
    let mut items = Vec::new();
    for (index, rows) in images().chunks(30).enumerate() {
        match plan.filter(|_| unchanged.contains(&index)) {
            Some(plan) => {
                let uri = format!("file:///b/{index}.tar");
                items.push(Today::Unchanged(plan.containers()[index].clone(), uri));
            }
            None => {
                let (uri, key) = (rows[0].uri.clone(), format!("{index}.tar"));
                items.push(Today::Opened(ContainerFile { uri, key, bytes: 1, digest: None }));
                let bare = |row: &PlanRow| match plan {
                    Some(_) => PlanRow { bucket: None, ..row.clone() },
                    None => row.clone(),
                };
                items.extend(rows.iter().map(|row| Today::Image(bare(row))));
            }
        }
    }
    items
}

fn hold(dir: &Path, items: Vec<Today>) -> Result<Held> {
    let items = items.into_iter().map(Ok);
    Plan::hold(dir, &of_buckets(), "so", items, 10, &mut |_, _, _| Ok(false))
}

fn made(dir: &Path) -> Plan {
    let Held::Same(plan) = hold(dir, found(None, &[])).unwrap() else { panic!() };
    plan
}

#[test]
fn rows_are_sorted_by_buckets_and_partitions_end_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let plan = made(dir.path());
    let mut due = images();
    due.sort_by_key(|row| SIZES.iter().position(|size| Some(*size) == row.bucket_size()));
    due.iter_mut().zip(0..).for_each(|(row, ordinal)| row.ordinal = ordinal);
    let all: Vec<PlanRow> = plan.all_rows().unwrap().map(Result::unwrap).collect();
    assert_eq!(all, due);
    for partition in 0..plan.partitions() {
        let rows = plan.partition(partition).unwrap();
        assert!(rows.iter().all(|row| row.bucket_size() == rows[0].bucket_size()));
        assert!(rows.len() <= 10 && plan.taken_with(partition) == partition);
    }
    let full = (0..plan.partitions()).filter(|&p| plan.ordinals(p).unwrap().count() == 10);
    assert!(full.count() >= plan.partitions() - 3);
    due.sort_by_key(PlanRow::position);
    let listed: Vec<PlanRow> = plan.listed_rows().unwrap().map(Result::unwrap).collect();
    assert_eq!(listed, due);
    assert_eq!(crate::job::verify(dir.path()).unwrap().findings, []);
    assert_written_anew_is_the_same(dir.path());
    let other = tempfile::tempdir().unwrap();
    assert_eq!(made(other.path()).digest(), plan.digest());
    let read = |dir: &Path| std::fs::read(dir.join(FILE)).unwrap();
    assert_eq!(read(dir.path()), read(other.path()));
}

#[test]
fn what_is_found_is_compared_in_its_own_order() {
    let dir = tempfile::tempdir().unwrap();
    let plan = made(dir.path());
    let known: Vec<_> = plan.containers().iter().map(|c| (c.first, c.images)).collect();
    assert_eq!(known, [(0, 30), (30, 30), (60, 30)]);
    for unchanged in [&[][..], &[0], &[1], &[2], &[0, 2], &[1, 2], &[0, 1, 2]] {
        let Held::Same(again) = hold(dir.path(), found(Some(&plan), unchanged)).unwrap() else {
            panic!("{unchanged:?}")
        };
        for row in again.all_rows().unwrap().map(Result::unwrap) {
            let container = (row.position() / 30) as usize;
            let folder = if unchanged.contains(&container) { "b" } else { "a" };
            assert_eq!(again.place(&row), format!("file:///{folder}/{container}.tar"));
        }
    }
    let told = |change: &dyn Fn(&mut Vec<Today>)| {
        let mut items = found(Some(&plan), &[1]);
        change(&mut items);
        let Held::Other(_, told) = hold(dir.path(), items).unwrap() else { panic!() };
        told
    };
    let nothing = |items: &mut Vec<Today>| items.truncate(items.len() - 1);
    assert_eq!(told(&nothing), "image 89, 'k089', is gone (it had 90, now 89)");
    let other = |items: &mut Vec<Today>| {
        let Some(Today::Image(row)) = items.get_mut(40) else { panic!() };
        row.caption = Some("other".into());
    };
    assert_eq!(told(&other), "the caption of 'k067' was none and is now 'other'");
    let swapped = |items: &mut Vec<Today>| items.swap(3, 4);
    assert_eq!(told(&swapped), "image 2 has become image 3");
    // Where every container is as it was, no row is read.
    let path = dir.path().join(FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[600..1200].iter_mut().for_each(|byte| *byte = !*byte);
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(hold(dir.path(), found(Some(&plan), &[0, 1, 2])), Ok(Held::Same(_))));
    assert!(hold(dir.path(), found(Some(&plan), &[])).is_err());
}

#[test]
fn a_row_without_a_bucket_is_no_row_of_such_a_plan() {
    let dir = tempfile::tempdir().unwrap();
    let row = PlanRow { bucket: None, ..image(0) };
    let error = hold(dir.path(), vec![Today::Image(row)]).err().unwrap();
    assert_eq!(error.message(), "image 0, 'k000', is in no bucket");
    assert_eq!(commit::list(dir.path()).unwrap().len(), 0);
    let mut odd = of_buckets();
    for words in ["", "8", "8x", "0x8", "8x8;8x4"] {
        odd.preprocessing.buckets = Some(words.into());
        assert!(odd.check().is_err(), "{words}");
    }
    odd = of_buckets();
    odd.levels[0].grid = Some([2, 2]);
    assert!(odd.check().is_err());
}
