//! Matrix products on CUDA. f64 and f32 go to cuBLAS's plain call, and so does bf16 where a row or an
//! address is not a multiple of 16 bytes; all other bf16 products go to cuBLASLt ([`super::planned`]).

use super::fault::fail;
use super::planned::{Epilogue, Operand, Product};
use super::{BlasType, Cuda, Grid, Pointer, Precision, args};
use crate::params::{Param, Params};
use crate::real::Float;
use cudarc::cublas::result::gemm_ex;
use cudarc::cublas::sys::{
    cublasComputeType_t as Compute, cublasGemmAlgo_t as Algorithm, cublasOperation_t as Operation,
    cudaDataType,
};

/// A factor of a product: row-major, as it is or transposed.
#[derive(Clone, Copy)]
pub(crate) struct Factor<E> {
    at: Pointer<E>,
    transposed: bool,
}

/// The matrix as it lies there.
pub(crate) fn plain<E>(at: Pointer<E>) -> Factor<E> {
    Factor { at, transposed: false }
}

/// The transpose of the matrix that lies there.
pub(crate) fn transposed<E>(at: Pointer<E>) -> Factor<E> {
    Factor { at, transposed: true }
}

/// C <- alpha A B + beta C; A is m x k, B is k x n, C is m x n and lies as it is.
struct Gemm<E, C> {
    sizes: (usize, usize, usize),
    alpha: f64,
    a: Factor<E>,
    b: Factor<E>,
    beta: f64,
    c: Pointer<C>,
}

impl<T: Precision> Cuda<T> {
    /// `C <- alpha A B + beta C`; A is m x k, B is k x n, C is m x n and lies as it is. Sums are
    /// taken in `Master`; f32 products do not use TF32.
    #[track_caller]
    pub(crate) fn gemm<C: BlasType>(
        &self,
        sizes: (usize, usize, usize),
        alpha: f64,
        a: Factor<T::Elem>,
        b: Factor<T::Elem>,
        beta: f64,
        c: Pointer<C>,
    ) {
        let gemm = Gemm { sizes, alpha, a, b, beta, c };
        if !self.planned(&gemm, Epilogue::None) {
            self.gemm_ex(&gemm);
        }
    }

    /// y = x Wᵀ + bias; x is m x k, the weight n x k.
    #[track_caller]
    pub(crate) fn gemm_bias(
        &self,
        sizes: (usize, usize, usize),
        x: Pointer<T::Elem>,
        w: &Params<Self>,
        (weight, bias): (&Param, &Param),
        y: Pointer<T::Elem>,
    ) {
        let (a, b) = (plain(x), transposed(w.elem_at(weight)));
        let gemm = Gemm { sizes, alpha: 1.0, a, b, beta: 0.0, c: y };
        if self.planned(&gemm, Epilogue::Bias(w.elem_at(bias).address)) {
            return;
        }
        let (m, n) = (sizes.0, sizes.2);
        self.launch("fill_rows", Grid::each(m * n), args![y, w.at(bias), 1.0, m * n, n]);
        self.gemm_ex(&Gemm { beta: 1.0, ..gemm });
    }

    /// y = tanh-form GELU (x Wᵀ + bias), its input to `input`; false where cuBLASLt does not do it.
    #[track_caller]
    pub(crate) fn gemm_tanh_gelu(
        &self,
        sizes: (usize, usize, usize),
        x: Pointer<T::Elem>,
        w: &Params<Self>,
        (weight, bias): (&Param, &Param),
        (input, y): (Pointer<T::Elem>, Pointer<T::Elem>),
    ) -> bool {
        let (a, b) = (plain(x), transposed(w.elem_at(weight)));
        let last = Epilogue::TanhGelu { bias: w.elem_at(bias).address, input: input.address };
        self.planned(&Gemm { sizes, alpha: 1.0, a, b, beta: 0.0, c: y }, last)
    }

    /// Gives the product to cuBLASLt; false, and nothing done, where it is not for it.
    #[track_caller]
    fn planned<C: BlasType>(&self, gemm: &Gemm<T::Elem, C>, epilogue: Epilogue) -> bool {
        let Gemm { sizes: (m, k, n), alpha, a, b, beta, c } = *gemm;
        let operand = |f: Factor<_>| Operand { at: f.at.address, transposed: f.transposed };
        let product = Product {
            sizes: [m, k, n],
            alpha: alpha as f32,
            a: operand(a),
            b: operand(b),
            beta: beta as f32,
            c: c.address,
            wide: matches!(C::TYPE, cudaDataType::CUDA_R_32F),
            epilogue,
        };
        if !T::NARROW || [m, k, n].contains(&0) || !product.is_aligned() {
            return false;
        }
        self.device.multiply(&product)
    }

    /// The product by cuBLAS's plain call.
    #[track_caller]
    fn gemm_ex<C: BlasType>(&self, gemm: &Gemm<T::Elem, C>) {
        let Gemm { sizes: (m, k, n), alpha, a, b, beta, c } = *gemm;
        if m == 0 || n == 0 {
            return;
        }
        assert!(k > 0, "gemm: an empty sum");
        let [m, k, n] = [m, k, n].map(|x| i32::try_from(x).expect("gemm: a side beyond 2^31"));
        let operation = |transposed: bool| {
            if transposed { Operation::CUBLAS_OP_T } else { Operation::CUBLAS_OP_N }
        };
        let (alpha, beta) = (T::Master::from_f64(alpha), T::Master::from_f64(beta));
        let compute = match T::Master::TYPE {
            cudaDataType::CUDA_R_64F => Compute::CUBLAS_COMPUTE_64F,
            _ => Compute::CUBLAS_COMPUTE_32F,
        };
        // cuBLAS counts along columns: what it computes is Cᵀ = Bᵀ Aᵀ, for which nothing moves.
        // SAFETY: the caller's matrices have these sizes; the factors are read at the call.
        let done = self.device.with_blas(|handle| unsafe {
            gemm_ex(
                handle,
                operation(b.transposed),
                operation(a.transposed),
                n,
                m,
                k,
                std::ptr::from_ref(&alpha).cast(),
                b.at.address as *const _,
                T::Elem::TYPE,
                if b.transposed { k } else { n },
                a.at.address as *const _,
                T::Elem::TYPE,
                if a.transposed { m } else { k },
                std::ptr::from_ref(&beta).cast(),
                c.address as *mut _,
                C::TYPE,
                n,
                compute,
                Algorithm::CUBLAS_GEMM_DEFAULT,
            )
        });
        done.unwrap_or_else(|e| fail(&format!("product {m} x {k} x {n}"), format!("{:?}", e.0)));
    }
}
