//! Owns the flags that say what ONNX files don't, and which library runs them.

use crate::checkpoint::onnx::OnnxSettings;
use crate::job::TokenizerOptions;
use crate::model::config::PixelLayout;
use std::path::PathBuf;

/// Flags about a model in ONNX files; each stands above the tokenizer.json beside them.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct OnnxFlags {
    /// For a model in ONNX files: the number of its codes [default: as its tokenizer.json says]
    #[arg(long, value_name = "N", value_parser = codes_of)]
    pub codes: Option<usize>,
    /// For a model in ONNX files: the order of the sides of its pictures [default: as its tokenizer.json
    /// says, else as the sides tell]
    #[arg(long, value_name = "NCHW|NHWC")]
    pub layout: Option<PixelLayout>,
    /// For a model in ONNX files: what is taken from a pixel of 0 to 255 before it is divided by --std,
    /// one number or one a channel [default: as its tokenizer.json says]
    #[arg(long, value_name = "X[,X,X]", value_delimiter = ',', allow_negative_numbers = true)]
    pub mean: Option<Vec<f32>>,
    /// For a model in ONNX files: what a pixel is divided by after --mean was taken from it, one number
    /// or one a channel [default: as its tokenizer.json says]
    #[arg(long, value_name = "X[,X,X]", value_delimiter = ',')]
    pub std: Option<Vec<f32>>,
}

/// Which library runs models in ONNX files.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct RuntimeFlags {
    /// For a model in ONNX files: the library of ONNX Runtime, or a folder with it [default:
    /// ORT_DYLIB_PATH, else that of Python's package onnxruntime, else the system's]
    #[arg(long, value_name = "PATH")]
    pub onnxruntime: Option<PathBuf>,
}

impl OnnxFlags {
    /// The options with these.
    pub(super) fn over(&self, options: TokenizerOptions) -> TokenizerOptions {
        let OnnxFlags { codes, layout, mean, std } = self.clone();
        options.onnx(OnnxSettings { codes, layout, mean, std })
    }
}

impl RuntimeFlags {
    /// The options with these.
    pub(super) fn over(&self, options: TokenizerOptions) -> TokenizerOptions {
        match &self.onnxruntime {
            Some(library) => options.onnxruntime(library),
            None => options,
        }
    }
}

/// A `--codes`.
fn codes_of(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("a tokenizer has at least one code".into()),
        Ok(codes) => Ok(codes),
        Err(error) => Err(format!("{error}")),
    }
}
