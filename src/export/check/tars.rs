//! Owns reading tars back that have something else than WebDataset's own members: 4M's, a tar a
//! modality, and open-muse's.

use super::bytes::Source;
use super::webdataset::next_member;
use super::{npy, torch};
use crate::export::row::Given;

/// Gives each sample of 4M's tars: the codes of all crops, one behind the other.
pub(super) fn four_m(tars: &mut [Source], each: &mut dyn FnMut(Given)) -> Result<(), String> {
    let Some((tokens, others)) = tars.split_first_mut() else { return Ok(()) };
    while let Some((name, content)) = next_member(tokens)? {
        let codes = npy::array(&content)?;
        let [views, _] = codes.shape[..] else { return Err("its codes have other axes".into()) };
        let key = name.split('.').next().unwrap_or_default();
        for other in &mut *others {
            let (name, content) = next_member(other)?.ok_or("its tars have several lengths")?;
            if name.split('.').next() != Some(key) {
                return Err("its tars have several orders".into());
            }
            if name.ends_with(".npy") && npy::array(&content)?.shape != [views, 5] {
                return Err("it has crops of another number".into());
            }
        }
        each(Given { codes: codes.codes()?, ..Given::default() });
    }
    for other in others {
        if next_member(other)?.is_some() {
            return Err("its tars have several lengths".into());
        }
    }
    Ok(())
}

/// Gives each sample of open-muse's.
pub(super) fn open_muse(tar: &mut Source, each: &mut dyn FnMut(Given)) -> Result<(), String> {
    while let Some((name, content)) = next_member(tar)? {
        if name.ends_with(".pth") {
            let (_, codes) = torch::tensor(&content)?;
            each(Given { codes, ..Given::default() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::export::target::Target;
    use crate::export::testing;

    #[test]
    fn the_golden_tars_are_read_and_any_change_is_seen() {
        let Some(mut rows) = testing::golden() else { return };
        let pth = 1024 + 512;
        let tar = "webdataset/openmuse-00000.tar";
        testing::assert_read(Target::OpenMuse, &rows, &[tar], &[0, pth + 704, pth + 831]);
        for row in &mut rows {
            let mirrored: Vec<u32> =
                row.codes.chunks(4).flat_map(|line| line.iter().rev().copied()).collect();
            row.codes.extend(mirrored);
        }
        // The golden one of row 1 has wrapped codes, which we never write.
        let golden = ["tok_rgb@224", "crop_settings", "caption"];
        let golden = golden.map(|folder| format!("fourm/{folder}/shard-00000.tar"));
        let golden = golden.each_ref().map(String::as_str);
        testing::assert_refused(Target::FourM, &rows, &golden, "-32768 is no code");
        testing::assert_own_read(Target::FourM, &rows, &[0, 512 + 22, 512 + 128]);
    }
}
