//! Owns the exit code. Must not know: anything else.

use std::process::ExitCode;

fn main() -> ExitCode {
    vqtok::internals::cli::main()
}
