//! Owns reading MDS's and LitData's files back: samples by their places.

use super::bytes::{Source, numbers};
use crate::export::row::Given;

/// Gives each sample's bytes, and first what stands before all of them.
fn samples(
    file: &mut Source,
    config: &mut dyn FnMut(&[u8]) -> Result<(), String>,
    each: &mut dyn FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let size = file.left;
    let count = u64::from(u32::from_le_bytes(file.take_array()?));
    let places = numbers(&file.take(4 * (count + 1))?, 4);
    let mut at = 4 * (count + 2);
    let first = u64::from(places[0]);
    config(&file.take(first.checked_sub(at).ok_or("its samples begin too early")?)?)?;
    at = first;
    for place in &places[1..] {
        let end = u64::from(*place);
        each(&file.take(end.checked_sub(at).ok_or("a sample ends before it begins")?)?)?;
        at = end;
    }
    match at == size {
        true => Ok(()),
        false => Err("it doesn't end with its last sample".into()),
    }
}

/// Gives each item of a LitData chunk.
pub(super) fn items(
    file: &mut Source,
    each: &mut dyn FnMut(Vec<u32>) -> Result<(), String>,
) -> Result<(), String> {
    let none = &mut |config: &[u8]| match config.is_empty() {
        true => Ok(()),
        false => Err("its items begin too late".to_string()),
    };
    samples(file, none, &mut |item| each(numbers(item, 4)))
}

/// Gives each sample of an MDS shard.
pub(super) fn mds(file: &mut Source, each: &mut dyn FnMut(Given)) -> Result<(), String> {
    let columns = std::cell::RefCell::new(Vec::new());
    let config = &mut |config: &[u8]| {
        let config: serde_json::Value =
            serde_json::from_slice(config).map_err(|error| error.to_string())?;
        let list = |name: &str| config[name].as_array().cloned().ok_or("its columns are missing");
        for (name, encoding) in list("column_names")?.iter().zip(list("column_encodings")?) {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_string();
            columns.borrow_mut().push((text(name), text(&encoding)));
        }
        Ok(())
    };
    samples(file, config, &mut |sample| sample_of(sample, &columns.borrow()).map(&mut *each))
}

fn sample_of(sample: &[u8], columns: &[(String, String)]) -> Result<Given, String> {
    let short = || "a sample ends early".to_string();
    let variable = columns.iter().filter(|(_, encoding)| encoding != "int").count();
    let (lengths, mut values) = sample.split_at_checked(4 * variable).ok_or_else(short)?;
    let mut lengths = numbers(lengths, 4).into_iter();
    let mut given = Given::default();
    for (name, encoding) in columns {
        let length = match encoding.as_str() {
            "int" => 8,
            _ => lengths.next().ok_or_else(short)? as usize,
        };
        let (value, rest) = values.split_at_checked(length).ok_or_else(short)?;
        values = rest;
        match name.as_str() {
            "label_id" => {
                let class = i64::from_le_bytes(value.try_into().map_err(|_| short())?);
                given.class = Some(class).filter(|class| *class >= 0);
            }
            "tokens" => {
                let width =
                    encoding.strip_prefix("ndarray:uint").and_then(|bits| bits.parse().ok());
                let width = width.map(|bits: usize| bits / 8).ok_or("tokens have no type")?;
                let (head, rest) = value.split_first().ok_or_else(short)?;
                let side = 1 << (head & 3);
                let (sides, codes) = rest.split_at_checked(2 * side).ok_or_else(short)?;
                let sides = numbers(sides, side);
                given.sides = Some((sides[0] as usize, sides[1] as usize));
                given.codes = numbers(codes, width);
            }
            _ => {}
        }
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use crate::export::target::Target;
    use crate::export::testing;

    #[test]
    fn the_golden_files_are_read_and_any_change_is_seen() {
        let Some(rows) = testing::golden() else { return };
        let shard = "mds/dtype_only/shard.00000.mds";
        // A place, the last code.
        testing::assert_read(Target::Mds, &rows, &[shard], &[4, testing::file(shard).len() - 1]);
        let chunk = "litdata/tokens_i32/chunk-0-0.bin";
        testing::assert_read(Target::LitData, &rows[..4], &[chunk], &[0, 8, 24, 276]);
    }
}
