//! Owns which columns of a token file are read, and what a batch of them says row by row. Must not
//! know: files, models.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;

use super::crops::{self, Crops};
use super::image_facts::{self, Facts};
use super::keys::Keys;
use super::level_size::LevelSize;
use super::levels::{self, Level};
use super::nested::{self, Codes, Nested, Whole};
use super::rows::{Beside, Grid};
use crate::audit::parquet_file::ParquetFile;
use crate::util::settings::COLUMN;
use crate::util::text;

/// What to read of a token file, and what is known of its grids beforehand.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Columns of codes, one a level, dotted where they lie in structs; where there are none,
    /// `tokens` and the levels beside it.
    pub columns: Vec<String>,
    /// Height and width of each level's grid, for rows that have as many tokens and don't say
    /// theirs.
    pub grids: Vec<(usize, usize)>,
    /// Values of a token where no file says so: of lists of bits how many these are.
    pub values: usize,
    /// Whether rows of another number of tokens are refused rather than taken for squares.
    pub strict: bool,
    /// Whether what stands beside the tokens is read as well.
    pub beside: bool,
    /// Whether the place in the image is.
    pub crops: bool,
    /// Whether what its image is, is.
    pub image: bool,
    /// Whether nothing else is: rows have no levels then.
    pub without_tokens: bool,
    /// Whether whoever asks can name columns and grids, so that errors say how.
    pub choosable: bool,
}

/// The columns of what stands beside the tokens.
const BESIDE: [&str; 4] = ["label", "label_id", "caption", "meta_json"];

impl Asked {
    /// The top-level columns that may be read; a file needn't have them.
    pub fn roots(&self) -> Vec<&str> {
        let mut roots: Vec<&str> = vec!["key", "view"];
        if self.beside {
            roots.extend(BESIDE);
        }
        if self.crops {
            roots.extend(crops::COLUMNS);
        }
        if self.image {
            roots.extend(image_facts::COLUMNS);
        }
        if self.without_tokens {
            return roots;
        }
        if self.columns.is_empty() {
            levels::columns().for_each(|name| roots.push(name));
        } else {
            roots.extend(["grid_height", "grid_width"]);
            for name in &self.columns {
                roots.push(name);
                roots.extend(name.match_indices('.').map(|(end, _)| &name[..end]));
            }
        }
        roots
    }
}

/// The columns of one file.
pub(super) struct ColumnLayout {
    key: bool,
    view: bool,
    /// Which of [`BESIDE`] are asked for and there.
    beside: [bool; BESIDE.len()],
    crops: bool,
    image: Vec<&'static str>,
    levels: Vec<Place>,
}

/// Those of one level.
struct Place {
    /// As it was asked for.
    name: String,
    path: Vec<String>,
    height: Option<String>,
    width: Option<String>,
    /// Values of a token.
    values: usize,
    /// Whether its grid is the first level's.
    beside: bool,
}

/// What one row says.
pub(super) struct Parsed {
    pub key: Option<String>,
    pub view: Option<i64>,
    pub levels: Vec<Grid>,
    pub guessed: bool,
    pub beside: Beside,
}

/// Why a row can't be used, and its key.
pub(super) type Refused = (Option<String>, String);

impl ColumnLayout {
    /// Finds the columns. Errors in a few words: one that is missing, or can't hold codes.
    pub(super) fn of(sheet: &ParquetFile, asked: &Asked) -> Result<ColumnLayout, String> {
        let schema = sheet.schema();
        let has = |name: &str| schema.column_with_name(name).is_some();
        let there = |name: &str| has(name).then(|| name.to_string());
        let place = |name: &str, level: Option<&Level>| -> Result<Place, String> {
            let path = nested::place(schema, name)?.ok_or_else(|| missing(schema, name, asked))?;
            let told = |reason| format!("column '{}' {reason}", text::printable(name));
            nested::check_lists(schema, &path, asked.choosable).map_err(told)?;
            Ok(Place {
                name: name.to_string(),
                path,
                height: level.and_then(|level| there(&level.grid_height)),
                width: level.and_then(|level| there(&level.grid_width)),
                values: values_of(sheet, level).unwrap_or(asked.values),
                beside: level.is_some_and(Level::has_first_grid),
            })
        };
        let first = &levels::all()[0];
        let mut levels = Vec::new();
        let named = if asked.without_tokens { &[][..] } else { &asked.columns };
        for (index, name) in named.iter().enumerate() {
            levels.push(place(name, Some(first).filter(|_| index == 0))?);
        }
        if asked.columns.is_empty() && !asked.without_tokens {
            if !has(&first.tokens) {
                return Err(missing(schema, &first.tokens, asked));
            }
            for level in levels::of(schema) {
                levels.push(place(&level.tokens, Some(level))?);
            }
        }
        for name in levels.iter().flat_map(|level| [&level.height, &level.width]).flatten() {
            let kind = schema.field_with_name(name).map(|field| field.data_type());
            if let Some(kind) = kind.ok().filter(|kind| !nested::is_whole(kind)) {
                return Err(format!("column '{name}' is {}, not an integer", nested::named(kind)));
            }
        }
        check_key(schema)?;
        let view = schema.field_with_name("view");
        let view = view.is_ok_and(|field| field.data_type().is_integer());
        let plain = |name: &str| {
            schema.field_with_name(name).is_ok_and(|field| !field.data_type().is_nested())
        };
        let beside = BESIDE.map(|name| asked.beside && plain(name));
        let crops = asked.crops && crops::are_in(schema);
        let image = image_facts::in_schema(schema).filter(|_| asked.image).collect();
        Ok(ColumnLayout { key: has("key"), view, beside, crops, image, levels })
    }

    /// The top-level columns that are read.
    pub(super) fn roots(&self) -> Vec<&str> {
        let mut roots = Vec::new();
        roots.extend(self.key.then_some("key"));
        roots.extend(self.view.then_some("view"));
        roots.extend(
            BESIDE.iter().zip(self.beside).filter(|(_, there)| *there).map(|(name, _)| name),
        );
        roots.extend(crops::COLUMNS.iter().filter(|_| self.crops));
        roots.extend(&self.image);
        for level in &self.levels {
            roots.push(level.path[0].as_str());
            roots.extend([&level.height, &level.width].into_iter().flatten().map(String::as_str));
        }
        roots
    }

    /// The columns beside the tokens, as far as they are asked for and there.
    fn beside_in(&self, batch: &RecordBatch) -> Result<[Option<Keys>; BESIDE.len()], String> {
        let mut beside = [const { None }; BESIDE.len()];
        for ((place, name), there) in beside.iter_mut().zip(BESIDE).zip(self.beside) {
            let column = batch.column_by_name(name).filter(|_| there);
            *place = column.map(Keys::of).transpose()?;
        }
        Ok(beside)
    }

    /// A batch row by row. Errors in a few words where it isn't as its file's schema says.
    pub(super) fn rows(
        &self,
        batch: &RecordBatch,
        asked: &Asked,
    ) -> Result<Vec<Result<Parsed, Refused>>, String> {
        let column = |name: &str| {
            batch.column_by_name(name).ok_or_else(|| format!("column '{name}' isn't there"))
        };
        let whole = |name: &str| Whole::of(column(name)?);
        let keys = if self.key { Some(Keys::of(column("key")?)?) } else { None };
        let views = if self.view { Some(whole("view")?) } else { None };
        let beside = self.beside_in(batch)?;
        let crops = if self.crops { Crops::of(batch) } else { None };
        let images = asked.image.then(|| Facts::of(batch));
        let mut levels = Vec::new();
        for place in &self.levels {
            let told = |reason| format!("column '{}' {reason}", text::printable(&place.name));
            let lists = Nested::of(column(&place.path[0])?, &place.path).map_err(told)?;
            let side = |name: &Option<String>| name.as_deref().map(whole).transpose();
            let (sides, values) = ([side(&place.height)?, side(&place.width)?], place.values);
            levels.push(LevelColumns { lists, sides, values });
        }
        let row = |i: usize| -> Result<Parsed, Refused> {
            let key = match &keys {
                None => None,
                Some(keys) => Some(
                    keys.get(i).ok_or_else(|| (None, "its key is missing (null)".to_string()))?,
                ),
            };
            let view = views.as_ref().and_then(|views| views.get(i)?.ok());
            let (mut grids, mut guessed, mut first) = (Vec::new(), false, None);
            for (index, (level, place)) in levels.iter().zip(&self.levels).enumerate() {
                let known = asked.grids.get(index).copied();
                let grid = level.grid(i, first.filter(|_| place.beside), known, asked);
                let (grid, square) = grid.map_err(|reason| {
                    let of = if index > 0 || !asked.columns.is_empty() {
                        format!("column '{}' ", text::printable(&place.name))
                    } else {
                        String::new()
                    };
                    (key.clone(), of + &reason)
                })?;
                first.get_or_insert((grid.height, grid.width));
                guessed |= square && index == 0;
                grids.push(grid);
            }
            let [label, label_id, caption, meta_json] =
                beside.each_ref().map(|texts| texts.as_ref().and_then(|texts: &Keys| texts.get(i)));
            let label_id = label_id.and_then(|id| id.parse().ok());
            let crops = crops.as_ref().and_then(|crops| crops.get(i)).into_iter().collect();
            let image = images.as_ref().map(|images| Box::new(images.get(i)));
            let beside = Beside { label, label_id, caption, meta_json, crops, image };
            Ok(Parsed { key, view, levels: grids, guessed, beside })
        };
        Ok((0..batch.num_rows()).map(row).collect())
    }
}

/// Errors where keys can be no text.
fn check_key(schema: &Schema) -> Result<(), String> {
    let key = schema.field_with_name("key").map(|field| field.data_type());
    match key.ok().filter(|kind| kind.is_nested()) {
        Some(kind) => {
            let kind = nested::named(kind);
            Err(format!("column 'key' is {kind}, neither text nor a number"))
        }
        None => Ok(()),
    }
}

/// Values of a token, as a file says of a level.
fn values_of(sheet: &ParquetFile, level: Option<&Level>) -> Option<usize> {
    let entry = |name: &str| sheet.entries.get(&format!("vqtok.{name}")).map(String::as_str);
    LevelSize::of(level?, entry).map(|size| size.values())
}

/// The text for a column that isn't there, with those that are.
fn missing(schema: &Schema, name: &str, asked: &Asked) -> String {
    const NAMED_MAX: usize = 20;
    let names: Vec<_> = schema.fields().iter().map(|field| text::shorten(field.name())).collect();
    let more = if names.len() > NAMED_MAX { ", ..." } else { "" };
    let names = names[..names.len().min(NAMED_MAX)].join(", ");
    let hint = match asked.choosable {
        true => format!("name another with {COLUMN}"),
        false => "that is where codes are read from".to_string(),
    };
    format!("has no column '{}' (it has: {names}{more}); {hint}", text::printable(name))
}

/// A level in a batch.
struct LevelColumns {
    lists: Nested,
    /// Height and width, where there are columns of them.
    sides: [Option<Whole>; 2],
    /// Values of a token.
    values: usize,
}

impl LevelColumns {
    /// Row `i` as a grid, and whether only its number of tokens says which. `first` is the first
    /// level's grid for a level that has the same.
    fn grid(
        &self,
        i: usize,
        first: Option<(usize, usize)>,
        known: Option<(usize, usize)>,
        asked: &Asked,
    ) -> Result<(Grid, bool), String> {
        let Codes { codes, mut sides } = self.lists.get(i)?;
        let values = self.values.max(1);
        let count = codes.len() / values;
        if values > 1 {
            if codes.len() % values != 0 {
                let bits = codes.len();
                return Err(format!("has {bits} bits, which are no lists of {values}"));
            }
            // A token may be a list within the row's, or some values of that.
            match sides.split_last_mut() {
                Some((last, [_, ..])) if *last == values => drop(sides.pop()),
                Some((last, _)) => *last /= values,
                None => {}
            }
        }
        let told = match self.sides(i)? {
            Some(told) => Some(told),
            None => first,
        };
        let nested = nesting(&sides)?;
        let fits = |&(height, width): &(usize, usize)| height.checked_mul(width) == Some(count);
        let (grid, guessed) = match (told, nested) {
            (Some(told), _) if !fits(&told) => {
                return Err(format!("has {count} tokens for a grid of {} x {}", told.0, told.1));
            }
            (Some(told), Some(nested)) if told != nested && nested.0 > 1 && nested.1 > 1 => {
                return Err(format!(
                    "is nested as {} x {} where its columns say {} x {}",
                    nested.0, nested.1, told.0, told.1
                ));
            }
            (Some(told), _) => (told, false),
            (None, Some(nested)) if nested.0 > 1 && nested.1 > 1 => (nested, false),
            (None, nested) => match known.filter(fits) {
                Some(known) => (known, false),
                None if asked.strict => return Err(unfit(count, known, asked)),
                None if count.isqrt().pow(2) == count => ((count.isqrt(), count.isqrt()), true),
                None => (nested.ok_or_else(|| unfit(count, known, asked))?, true),
            },
        };
        Ok((Grid { codes, height: grid.0, width: grid.1 }, guessed))
    }

    /// Height and width as their columns say; None where both are missing.
    fn sides(&self, i: usize) -> Result<Option<(usize, usize)>, String> {
        let [Some(heights), Some(widths)] = &self.sides else { return Ok(None) };
        let side = |side: Result<i64, String>| {
            let side = side.and_then(|side| usize::try_from(side).map_err(|_| side.to_string()));
            side.map_err(|side| format!("has a grid with a side of {side}"))
        };
        match (heights.get(i), widths.get(i)) {
            (None, None) => Ok(None),
            (Some(height), Some(width)) => Ok(Some((side(height)?, side(width)?))),
            _ => Err("has a grid of which one side is missing (null)".into()),
        }
    }
}

/// Height and width by nesting: None for a plain list, whatever axes of 1 are around it.
fn nesting(sides: &[usize]) -> Result<Option<(usize, usize)>, String> {
    let mut rest = sides;
    while let [1, inner @ ..] = rest
        && inner.len() >= 2
    {
        rest = inner;
    }
    while let [inner @ .., 1] = rest
        && inner.len() >= 2
    {
        rest = inner;
    }
    match *rest {
        [] | [_] => Ok(None),
        [height, width] => Ok(Some((height, width))),
        _ => {
            let sides: Vec<_> = sides.iter().map(usize::to_string).collect();
            Err(format!("is nested as {}, where a grid has two sides", sides.join(" x ")))
        }
    }
}

/// Why so many tokens are no grid.
fn unfit(count: usize, known: Option<(usize, usize)>, asked: &Asked) -> String {
    let Some((height, width)) = known else {
        let given = if asked.choosable { ", or give the grid (HEIGHTxWIDTH)" } else { "" };
        return format!(
            "has {count} tokens, which is no square; add columns grid_height and grid_width{given}"
        );
    };
    let expected = height * width;
    let hint = match count.checked_sub(expected) {
        Some(1) => "; is one of them a start or class token?",
        Some(2) => "; are two of them start and end tokens?",
        _ => "",
    };
    format!("has {count} tokens where {expected} are expected (a grid of {height} x {width}){hint}")
}
