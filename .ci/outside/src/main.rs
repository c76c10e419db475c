//! Tokenizes a folder of images and says what came of it: `outside IMAGES MODEL OUT`.

use vqtok::{Error, Tokenize, Tokenizer};

fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [images, model, out] = &args[..] else {
        return Err(Error::invalid("give a folder of images, a model and a folder for tokens"));
    };
    let mut tokenizer = Tokenizer::open(model)?;
    let summary = Tokenize::new([images], out).run(&mut tokenizer, &mut ())?;
    println!("{} written, {} failed", summary.written, summary.failed);
    if let Some(dataset) = summary.dataset {
        println!("{} tokens in {} shards", dataset.totals.tokens, dataset.shards.len());
    }
    Ok(())
}
