//! Owns the names of the settings in `tokenizer.json`: which there are, and which one was meant where
//! another is written. A setting that is passed over gives other tokens without a word.

use strsim::damerau_levenshtein;

use crate::util::text::shorten;

/// Settings at the top.
const TOP: [&str; 12] = [
    "codes",
    "input",
    "output",
    "tokens",
    "decoder_tokens",
    "size",
    "resize",
    "alpha",
    "orientation",
    "pillow",
    "grid",
    "factor",
];

/// Settings of `input` and `output`.
const OF_PORT: [&str; 4] = ["name", "layout", "mean", "std"];

/// What a list of bits would be called; no network's output is one here.
const BITS: &str = "bits";

/// Words of other tools' files that say what one of ours says, in small letters without `_` and `-`.
const WORDS: [(&str, &[&str]); 10] = [
    ("codes", &["codebooksize", "ncodes", "nembed", "numcodes", "numembeddings", "vocabsize"]),
    ("size", &["cropsize", "height", "imagesize", "inputsize", "resolution", "width"]),
    ("resize", &["interpolation", "resample", "resizemode"]),
    ("factor", &["downsample", "downsamplefactor", "downsampling", "patchsize", "stride"]),
    ("grid", &["gridsize", "latentsize"]),
    ("tokens", &["outputs", "tokenname", "tokenoutput", "tokenoutputs"]),
    ("input.mean", &["imagemean", "mean", "pixelmean"]),
    ("input.std", &["imagestd", "pixelstd", "std"]),
    ("input.layout", &["dataformat", "layout"]),
    ("input.mean` and `input.std", &["normalize", "range", "rescalefactor", "scale"]),
];

/// Words that say in which order a picture's colours come, in small letters without `_` and `-`.
const COLOURS: [&str; 6] =
    ["channelorder", "color", "colormode", "colororder", "colour", "colourorder"];

/// A name in small letters without what joins words.
fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
}

/// The setting that an unknown name stands for, most likely.
fn meant(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let plain = plain(name);
    let near = |known: &&&str| damerau_levenshtein(&plain, known) <= 1;
    let word = || WORDS.iter().find(|(_, words)| words.contains(&plain.as_str()));
    known.iter().find(near).copied().or_else(|| word().map(|(ours, _)| *ours))
}

/// What there is to say of names that no setting has, those at the top and those of a port: the first
/// that stands for one of ours.
///
/// # Errors
/// That, with the name that is meant.
pub(super) fn check<'a>(
    names: impl IntoIterator<Item = &'a String>,
    port: Option<&str>,
) -> Result<(), String> {
    let known: &[&str] = if port.is_some() { &OF_PORT } else { &TOP };
    let names: Vec<&String> = names.into_iter().collect();
    if port.is_none() && names.iter().any(|name| name.to_lowercase() == BITS) {
        return Err(format!(
            "`{BITS}` is no setting: let the network give each token as one number, of 32 bits at most, \
             and say how many there are as `codes`"
        ));
    }
    if let Some(name) = names.iter().find(|name| COLOURS.contains(&plain(name).as_str())) {
        return Err(format!(
            "`{}` is no setting: pictures go in and come out as RGB; let the network change their order",
            shorten(name)
        ));
    }
    let parts = names.iter().find_map(|name| name.split_once('.'));
    if let Some((of, name)) = parts.filter(|(of, name)| TOP.contains(of) && OF_PORT.contains(name))
    {
        return Err(format!("`{of}.{name}` is written {{\"{of}\": {{\"{name}\": ...}}}}"));
    }
    let found = names.into_iter().find_map(|name| Some((name, meant(name, known)?)));
    let Some((name, ours)) = found else { return Ok(()) };
    let (within, name) = (port.map_or_else(String::new, |of| format!("{of}.")), shorten(name));
    let ours = if ours.contains('.') { ours.to_owned() } else { format!("{within}{ours}") };
    Err(format!("`{within}{name}` is no setting: is `{ours}` meant?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_a_setting_is_refused_by_its_name_and_notes_are_not() {
        let check = |name: &str, port| check([&name.to_owned()], port);
        for note in ["note", "notes", "name", "description", "version", "family", "license", ""] {
            assert_eq!(check(note, None), Ok(()), "{note}");
        }
        assert!(check("bits", None).unwrap_err().contains("as one number, of 32 bits at most"));
        for (name, ours) in [
            ("reszie", "`resize`"),
            ("Codes", "`codes`"),
            ("code", "`codes`"),
            ("image_size", "`size`"),
            ("codebook-size", "`codes`"),
            ("mean", "`input.mean`"),
            ("rescale_factor", "`input.mean` and `input.std`"),
        ] {
            let said = check(name, None).unwrap_err();
            assert!(said.contains(ours) && said.contains(name), "{said}");
        }
        assert_eq!(
            check("means", Some("output")).unwrap_err(),
            "`output.means` is no setting: is `output.mean` meant?"
        );
        assert_eq!(check("more", Some("input")), Ok(()));
    }

    #[test]
    fn no_setting_is_taken_for_another() {
        for (name, known) in
            TOP.iter().map(|n| (n, &TOP[..])).chain(OF_PORT.iter().map(|n| (n, &OF_PORT[..])))
        {
            assert_eq!(meant(name, known), Some(*name));
        }
    }
}
