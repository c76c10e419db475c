//! Owns reading TFRecord files of `tf.train.Example` back.

use super::bytes::Source;
use crate::export::row::Given;

/// Gives each example's ids, class and sides.
pub(super) fn read(
    file: &mut Source,
    each: &mut dyn FnMut(Vec<u32>, Option<i64>, Option<(usize, usize)>) -> Result<(), String>,
) -> Result<(), String> {
    while file.left > 0 {
        let length: [u8; 8] = file.take_array()?;
        let told = u32::from_le_bytes(file.take_array()?);
        if told != masked(&length) {
            return Err("a record's length has another sum".into());
        }
        let data = file.take(u64::from_le_bytes(length))?;
        if u32::from_le_bytes(file.take_array()?) != masked(&data) {
            return Err("a record has another sum".into());
        }
        let mut given = Given::default();
        let mut sides = [None; 2];
        for (number, features) in fields(&data)? {
            let features = if number == 1 { fields(features)? } else { Vec::new() };
            for (_, entry) in features {
                let (name, values) = feature(entry)?;
                match name {
                    b"tokens" => {
                        let code = |value: &u64| u32::try_from(*value).map_err(|e| e.to_string());
                        given.codes = values.iter().map(code).collect::<Result<_, _>>()?;
                    }
                    b"label" => given.class = values.first().map(|class| *class as i64),
                    b"grid_height" => sides[0] = values.first().map(|side| *side as usize),
                    b"grid_width" => sides[1] = values.first().map(|side| *side as usize),
                    _ => {}
                }
            }
        }
        each(given.codes, given.class.filter(|class| *class >= 0), sides[0].zip(sides[1]))?;
    }
    Ok(())
}

fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Name and int64s of an entry of the map.
fn feature(entry: &[u8]) -> Result<(&[u8], Vec<u64>), String> {
    let (mut name, mut values) = (&[][..], Vec::new());
    for (number, content) in fields(entry)? {
        if number == 1 {
            name = content;
            continue;
        }
        for (kind, list) in fields(content)? {
            let packed = if kind == 3 { fields(list)? } else { Vec::new() };
            for (_, mut packed) in packed {
                while !packed.is_empty() {
                    values.push(varint(&mut packed)?);
                }
            }
        }
    }
    Ok((name, values))
}

/// The fields of a message all of which are bytes.
fn fields(mut message: &[u8]) -> Result<Vec<(u64, &[u8])>, String> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let length = varint(&mut message)? as usize;
        let (content, rest) = message
            .split_at_checked(length)
            .filter(|_| tag & 7 == 2)
            .ok_or("an example isn't one of TensorFlow's")?;
        fields.push((tag >> 3, content));
        message = rest;
    }
    Ok(fields)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or("an example ends early")?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number doesn't end".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::target::Target;
    use crate::export::testing;

    #[test]
    fn the_golden_file_and_our_own_are_read_and_any_change_is_seen() {
        let Some(rows) = testing::golden() else { return };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("golden");
        std::fs::write(&path, testing::file("tfrecord/tokens-00000-of-00001.tfrecord")).unwrap();
        let mut found = Vec::new();
        let each = &mut |codes, class, _| {
            found.push((codes, class));
            Ok(())
        };
        read(&mut Source::open(&path).unwrap(), each).unwrap();
        let expected: Vec<_> = rows.iter().map(|row| (row.codes.clone(), row.class)).collect();
        assert_eq!(found, expected);
        testing::assert_own_read(Target::TfRecord, &rows, &[0, 8, 30, 120]);
    }
}
