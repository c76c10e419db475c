//! Owns reading one int64 tensor out of a file of `torch.save`.

use super::bytes::wide_numbers;

/// The tensor's shape and its elements as codes.
pub(super) fn tensor(file: &[u8]) -> Result<(Vec<usize>, Vec<u32>), String> {
    let (mut pickle, mut elements) = (None, None);
    for (name, content) in records(file)? {
        // All lie in one folder.
        let below = name.iter().position(|byte| *byte == b'/').map_or(0, |at| at + 1);
        match &name[below..] {
            b"data.pkl" => pickle = Some(content),
            b"data/0" => elements = Some(content),
            _ => {}
        }
    }
    let shape = shape(pickle.ok_or("it has no data.pkl")?).ok_or("its pickle has no tensor")?;
    let elements = wide_numbers(elements.ok_or("it has no data/0")?, 8, true);
    if shape.iter().product::<usize>() != elements.len() {
        return Err("its tensor has another shape than elements".into());
    }
    let code = |value: &i64| u32::try_from(*value).map_err(|_| format!("{value} is no code"));
    Ok((shape, elements.iter().map(code).collect::<Result<_, _>>()?))
}

/// Names and contents of a stored ZIP, by its directory; each with its sum.
fn records(file: &[u8]) -> Result<Vec<(&[u8], &[u8])>, String> {
    let wrong = || "it isn't a ZIP of torch".to_string();
    let u16_at = |at: usize| -> Result<usize, String> {
        let bytes = file.get(at..at + 2).ok_or_else(wrong)?;
        Ok(usize::from(u16::from_le_bytes([bytes[0], bytes[1]])))
    };
    let u32_at = |at: usize| Ok::<_, String>(u16_at(at)? | u16_at(at + 2)? << 16);
    let end = file.len().checked_sub(22).ok_or_else(wrong)?;
    if file[end..end + 4] != *b"PK\x05\x06" {
        return Err(wrong());
    }
    let (count, mut at) = (u16_at(end + 10)?, u32_at(end + 16)?);
    let mut records = Vec::new();
    for _ in 0..count {
        let (crc, size, name) = (u32_at(at + 16)?, u32_at(at + 24)?, u16_at(at + 28)?);
        let begin = u32_at(at + 42)?;
        let name_bytes = file.get(at + 46..at + 46 + name).ok_or_else(wrong)?;
        let from = begin + 30 + u16_at(begin + 26)? + u16_at(begin + 28)?;
        let content = file.get(from..from + size).ok_or_else(wrong)?;
        let mut sum = flate2::Crc::new();
        sum.update(content);
        let local = file.get(begin + 30..begin + 30 + name);
        let signed = file.get(begin..begin + 4) == Some(b"PK\x03\x04");
        if sum.sum() as usize != crc || local != Some(name_bytes) || !signed {
            return Err("a record of its ZIP is damaged".into());
        }
        records.push((name_bytes, content));
        at += 46 + name + u16_at(at + 30)? + u16_at(at + 32)?;
    }
    Ok(records)
}

/// The shape that a pickle gives its tensor: numbers behind the persistent id and the place 0 in it.
fn shape(pickle: &[u8]) -> Option<Vec<usize>> {
    let at = pickle.windows(3).position(|window| window == b"QK\0")?;
    let (mut rest, mut shape) = (&pickle[at + 3..], Vec::new());
    loop {
        let (code, behind) = rest.split_first()?;
        let width = match code {
            b'K' => 1,
            b'M' => 2,
            b'J' => 4,
            0x85 | 0x86 => return (shape.len() == usize::from(code - 0x84)).then_some(shape),
            _ => return None,
        };
        let (number, behind) = behind.split_at_checked(width)?;
        shape.push(number.iter().rev().fold(0, |all, byte| all << 8 | usize::from(*byte)));
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use crate::export::testing;

    #[test]
    fn the_golden_file_is_read_and_damage_is_seen() {
        let Some(rows) = testing::golden() else { return };
        let mut file = testing::file("emu3/feature_tensor/000001.pth");
        assert_eq!(super::tensor(&file).unwrap(), (vec![4, 4], rows[1].codes.clone()));
        file[0x310] ^= 1;
        assert!(super::tensor(&file).unwrap_err().contains("damaged"));
    }

    #[test]
    fn no_cut_or_changed_byte_panics() {
        let Some(_) = testing::golden() else { return };
        let file = testing::file("emu3/feature_tensor/000001.pth");
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 0xff;
            let _ = super::tensor(&changed);
            let _ = super::tensor(&file[..at]);
        }
    }
}
