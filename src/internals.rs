//! What the tests, benches and fuzz targets of this package reach of its rooms, under the rooms' own
//! paths. Not for others: it changes with any version.

pub mod audit {
    pub use crate::audit::{TokenFile, report};
    pub use crate::job::verify;
}
pub mod checkpoint {
    pub use crate::checkpoint::{open, probe};
    pub mod folder {
        pub use crate::checkpoint::folder::{WEIGHTS_FILE, load, save};
    }
    pub mod onnx {
        pub mod write {
            pub use crate::checkpoint::onnx::write::{Floats, write};
        }
    }
    pub mod recognise {
        pub mod detect {
            pub use crate::checkpoint::recognise::detect::{
                DetectOptions, begin, detect_raw, open,
            };
        }
    }
}
#[cfg(feature = "cli")]
pub mod cli {
    pub use crate::cli::{command_line, main};
}
pub mod config {
    pub use crate::config::{RECIPES, Recipe};
}
pub mod data {
    pub use crate::data::{
        Alpha, Limits, PillowVersion, SourceFile, Take, decode, read, walk, walk_taking,
    };
    pub mod contact_sheet {
        pub use crate::data::contact_sheet::SheetLayout;
    }
    pub mod prepare {
        pub use crate::data::prepare::{Preparation, from_bytes, prepare};
    }
    pub mod resize {
        pub mod rules {
            pub use crate::data::resize::rules::{ResizeRule, prepare};
        }
    }
    pub mod source {
        pub mod fetch {
            pub use crate::data::source::fetch::contents;
        }
        pub mod file {
            pub use crate::data::source::file::read;
        }
    }
    pub mod subsample {
        pub use crate::data::subsample::evenly;
    }
}
pub mod engine {
    pub use crate::engine::{
        CodeGrid, Decoded, DeviceChoice, Encoded, Engine, Images, PixelBatch, Precision, Submitted,
        images_for_threads, open, require,
    };
    pub mod candle {
        pub use crate::engine::candle::CandleEngine;
    }
    pub mod cpu {
        pub use crate::engine::cpu::CpuEngine;
        pub mod kernels {
            pub use crate::kernels::{Isa, peak, thread_seconds};
        }
    }
    pub mod onnx {
        use crate::engine::{DeviceChoice, Engine, OnnxEngine};
        use crate::error::Result;
        use crate::model::opened::Opened;

        /// The engine of a model in ONNX files, on the CPU; `side` is that of pictures, where it is
        /// known.
        ///
        /// # Errors
        /// No ONNX Runtime, files that it refuses.
        pub fn open(opened: Opened, side: Option<u32>) -> Result<Box<dyn Engine>> {
            Ok(Box::new(OnnxEngine::open(opened, DeviceChoice::Cpu, None, side)?))
        }
    }
    pub mod cuda {
        #[cfg(feature = "cuda")]
        pub use crate::engine::cuda::{CudaEngine, StageTime};
        pub mod libraries {
            pub use crate::engine::cuda::libraries::Library;
        }
    }
}
pub mod findings {
    pub use crate::findings::{Many, many};
}
pub mod job {
    use crate::error::Result;
    use crate::tokens::PlanRow;
    use std::path::PathBuf;

    /// The rows that tokenizing `inputs` would plan.
    ///
    /// # Errors
    /// Inputs that can't be used.
    pub fn rows(inputs: &[PathBuf]) -> Result<impl Iterator<Item = Result<PlanRow>> + use<>> {
        crate::job::rows(inputs)
    }
}
pub mod model {
    pub use crate::model::Model;
    pub mod autoencoder {
        pub use crate::model::autoencoder::Autoencoder;
    }
    pub mod config {
        pub use crate::model::config::{
            Architecture, InputRange, OutputRange, Parts, VqvaeConfig, *,
        };
    }
    pub mod conv {
        pub use crate::model::conv::{Padding, conv_transpose2d, conv2d};
        pub use crate::model::conv_sizes::ConvSizes;
    }
    #[cfg(feature = "cuda")]
    pub mod cuda {
        pub use crate::model::cuda::convolutions::{Convolution, Convolutions, Product};
    }
    pub mod relu {
        pub use crate::model::relu::relu;
    }
    pub mod layers {
        pub use crate::model::layers::{GroupNorm, double_nearest};
    }
    pub mod topology {
        pub use crate::model::topology::{Io, NormSpec};
    }
}
pub mod pipeline {
    pub use crate::pipeline::{DECODE_TIME_MAX, OnError, Settings, Sizes, identity, run};
}
pub mod tokens {
    pub use crate::tokens::{
        CommitMode, Container, ContainerFile, FailureRow, Held, Identity, LevelLayout, Outcome,
        PartitionWriter, Plan, PlanRow, Preprocessing, Receipt, Today, TokenGrid, TokenRow,
        TokenizerId, contents, finalize,
    };
    pub mod repair {
        pub use crate::tokens::repair::{Damage, clear, reopen, with_failures};
    }
}
pub mod train {
    pub use crate::train::{Event, Observer, TrainData, run};
    pub mod input {
        pub mod images {
            pub use crate::train::input::images::Images;
        }
    }
    pub mod network {
        pub mod autoencoder {
            pub use crate::train::network::autoencoder::Autoencoder;
        }
        pub mod optimizer {
            pub use crate::train::network::optimizer::{AdamW, clip, gradients};
        }
        pub mod parameters {
            pub use crate::train::network::parameters::{Parameters, Tensors, flat, set_flat};
        }
        pub mod random {
            pub use crate::train::network::random::{Draws, fnv1a64, splitmix64, unit};
        }
    }
    pub mod quantizer {
        pub mod ema {
            pub use crate::train::quantizer::ema::{Averages, EmaCodebook};
        }
        pub mod estimator {
            pub use crate::train::quantizer::estimator::{code_loss, commitment, straight_through};
        }
        pub mod kmeans {
            pub use crate::train::quantizer::kmeans::KMeans;
        }
        pub mod layout {
            pub use crate::train::quantizer::layout::{lookup, to_rows};
        }
        pub mod nearest {
            pub use crate::train::quantizer::nearest::nearest;
        }
    }
    pub mod settings {
        pub mod codebook {
            pub use crate::train::settings::codebook::Estimator;
        }
    }
    pub mod trainer {
        pub use crate::train::trainer::Trainer;
    }
}
pub mod weights {
    pub mod digests {
        pub use crate::weights::digests::Digests;
    }
    pub mod store {
        pub use crate::weights::store::Weights;
    }
    pub mod tensor {
        pub use crate::weights::tensor::{Dtype, RawTensor};
    }
}
