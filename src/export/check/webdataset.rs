//! Owns reading a tar of samples back: adjacent members of one name up to its first dot.

use super::bytes::Source;
use super::npy;
use crate::export::row::Given;

/// Gives each sample.
pub(super) fn read(tar: &mut Source, each: &mut dyn FnMut(Given)) -> Result<(), String> {
    let mut open: Option<(String, Given)> = None;
    while let Some((name, content)) = next_member(tar)? {
        let (key, field) = name.split_once('.').ok_or("a member's name has no dot")?;
        if open.as_ref().is_none_or(|(open, _)| open != key)
            && let Some((_, given)) = open.replace((key.to_string(), Given::default()))
        {
            each(given);
        }
        let Some((_, given)) = &mut open else { continue };
        match field {
            "cls" => {
                let class = std::str::from_utf8(&content).ok().and_then(|text| text.parse().ok());
                let class: i64 = class.ok_or("a class isn't a number")?;
                given.class = Some(class).filter(|class| *class >= 0);
            }
            "tokens.npy" => {
                let array = npy::array(&content)?;
                let ([height, width] | [height, width, _]) = array.shape[..] else {
                    return Err("an array isn't a grid".into());
                };
                (given.sides, given.codes) = (Some((height, width)), array.codes()?);
            }
            _ => {}
        }
    }
    if let Some((_, given)) = open {
        each(given);
    }
    Ok(())
}

/// The next file, with its name; none where zeros end the tar.
pub(super) fn next_member(tar: &mut Source) -> Result<Option<(String, Vec<u8>)>, String> {
    let header = tar.take(512).map_err(|_| "its end is missing")?;
    if header.iter().all(|byte| *byte == 0) {
        let end = tar.take(512).map_err(|_| "its end is missing")?;
        return match end.iter().all(|byte| *byte == 0) {
            true => Ok(None),
            false => Err("a member stands behind its end".into()),
        };
    }
    let (name, size) = member(&header)?;
    let content = tar.take(size)?;
    tar.take(size.next_multiple_of(512) - size)?;
    Ok(Some((name, content)))
}

/// A member's name and size.
fn member(header: &[u8]) -> Result<(String, u64), String> {
    let text = |from: usize, to: usize| {
        let field = &header[from..to];
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
        String::from_utf8_lossy(&field[..end]).trim().to_string()
    };
    let octal = |from: usize, to: usize| u64::from_str_radix(&text(from, to), 8);
    let (Ok(size), Ok(told)) = (octal(124, 136), octal(148, 156)) else {
        return Err("a member's header has no numbers".into());
    };
    let of =
        |(at, byte): (usize, &u8)| u64::from(if (148..156).contains(&at) { b' ' } else { *byte });
    match header.iter().enumerate().map(of).sum::<u64>() == told {
        true => Ok((text(0, 100), size)),
        false => Err("a member's checksum is wrong".into()),
    }
}

#[cfg(test)]
mod tests {
    use crate::export::target::Target;
    use crate::export::testing;

    #[test]
    fn the_golden_tars_are_read_and_any_change_is_seen() {
        let Some(rows) = testing::golden() else { return };
        // A class, a code, a name in a header.
        let changed = [512, 2048 + 512 + 128, 0];
        let tars = ["webdataset/tokens-000000.tar", "webdataset/tokens-000001.tar"];
        for (rows, tar) in [&rows[..4], &rows[4..]].into_iter().zip(tars) {
            testing::assert_read(Target::WebDataset, rows, &[tar], &changed);
        }
    }
}
