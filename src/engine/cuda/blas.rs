//! Owns matrix products through cuBLAS: its handle, its precision, its calls. Must not know: what is
//! multiplied, who owns the buffers.

use std::ffi::{c_int, c_longlong, c_void};

use cudarc::cublas::{result as blas, sys};
use cudarc::driver::CudaStream;

use super::program::{Gemm, Matrix};
use crate::engine::device::Precision;
use crate::error::{Error, Result};
use crate::nvidia::errors::failed;

fn wrong(what: &str) -> impl Fn(blas::CublasError) -> Error {
    let what = what.to_owned();
    move |error| match error.0 {
        sys::cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED => {
            Error::out_of_memory(format!("cuBLAS, {what}"))
        }
        _ => failed("cuBLAS", &what, &error.to_string()),
    }
}

/// cuBLAS on a stream. cudarc's own handle panics where it can't be destroyed, as after a kernel
/// that failed, so that the error that ended the run would be lost.
pub(super) struct Blas(sys::cublasHandle_t);

// SAFETY: a handle belongs to no thread; it is only used by the engine that owns it.
unsafe impl Send for Blas {}

impl Drop for Blas {
    fn drop(&mut self) {
        // SAFETY: created by `new`, destroyed once. Nothing can be done about a failure.
        let _ = unsafe { blas::destroy_handle(self.0) };
    }
}

/// A [`Gemm`] with the addresses of its matrices.
pub(super) struct Product {
    /// What is multiplied.
    pub gemm: Gemm,
    /// Of `gemm.a`, `gemm.b`, `gemm.c`; see [`Product::new`].
    addresses: [u64; 3],
}

impl Product {
    /// `address` of a buffer's first byte.
    pub(super) fn new(gemm: Gemm, address: impl Fn(Matrix) -> u64) -> Product {
        let start = |m: Matrix| address(m) + (m.offset * m.element.bytes()) as u64;
        Product { gemm, addresses: [gemm.a, gemm.b, gemm.c].map(start) }
    }
}

impl Blas {
    /// Work goes to `stream`. Float32 factors are multiplied as float32 whatever the environment
    /// asks for (`NVIDIA_TF32_OVERRIDE`), and partial sums of bfloat16 ones stay float32.
    pub(super) fn new(stream: &CudaStream, element: Precision) -> Result<Blas> {
        let made = Blas(blas::create_handle().map_err(wrong("a handle"))?);
        let mode = match element {
            Precision::F32 => sys::cublasMath_t::CUBLAS_PEDANTIC_MATH,
            Precision::Bf16 => sys::cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION,
        };
        // SAFETY: the handle and the stream are live.
        unsafe {
            blas::set_stream(made.0, stream.cu_stream().cast()).map_err(wrong("the stream"))?;
            sys::cublasSetMathMode(made.0, mode).result().map_err(wrong("its precision"))?;
        }
        Ok(made)
    }

    /// Major, minor and patch version.
    pub(super) fn version(&self) -> Result<[usize; 3]> {
        let mut version = 0;
        // SAFETY: the handle is live; `version` is written before the call returns.
        let status = unsafe { sys::cublasGetVersion_v2(self.0, &mut version) };
        status.result().map_err(wrong("its version"))?;
        let version = usize::try_from(version).unwrap_or(0);
        Ok([version / 10_000, version / 100 % 100, version % 100])
    }

    /// Queues a product.
    pub(super) fn run(&self, product: &Product) -> Result<()> {
        let gemm = &product.gemm;
        let call = gemm.column_major();
        // The factors have changed places.
        let [second_at, first_at, c_at] = product.addresses.map(|address| address as *mut c_void);
        let element = |m: Matrix| match m.element {
            Precision::F32 => sys::cudaDataType_t::CUDA_R_32F,
            Precision::Bf16 => sys::cudaDataType_t::CUDA_R_16BF,
        };
        let transpose = match call.transpose_first {
            true => sys::cublasOperation_t::CUBLAS_OP_T,
            false => sys::cublasOperation_t::CUBLAS_OP_N,
        };
        let (first, second, c) = (call.first, call.second, gemm.c);
        let (alpha, beta) = (gemm.alpha, 0f32);
        // SAFETY: the handle is live; scalars are read from the host before the call returns;
        // every address, row and step is the program's, which `tests` carries out with guards.
        let status = unsafe {
            blas::gemm_strided_batched_ex(
                self.0,
                transpose,
                sys::cublasOperation_t::CUBLAS_OP_N,
                call.m as c_int,
                call.n as c_int,
                call.k as c_int,
                (&raw const alpha).cast(),
                first_at,
                element(first),
                first.row as c_int,
                first.step as c_longlong,
                second_at,
                element(second),
                second.row as c_int,
                second.step as c_longlong,
                (&raw const beta).cast(),
                c_at,
                element(c),
                c.row as c_int,
                c.step as c_longlong,
                gemm.batch as c_int,
                sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        };
        status.map_err(wrong("a product"))
    }
}
