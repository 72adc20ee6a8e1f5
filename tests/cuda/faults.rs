//! Mistakes that people make in kernels, planted one at a time: this program, run on an emulator that
//! was built from the damaged sources, must fail.

use cuda_emu::Edit;
use libtest_mimic::{Failed, Trial};
use std::process::Command;

/// A mistake, the precision it is tried in, and the tests that must notice it.
struct Fault {
    name: &'static str,
    precision: &'static str,
    tests: &'static str,
    edit: Edit<'static>,
}

const FAULTS: [Fault; 14] = [
    Fault {
        name: "missing_barrier",
        precision: "F32",
        tests: "cuda_layer_norm_tiny_f32",
        edit: (
            "prelude.cuh",
            "if (lane == 0) parts[warp] = x;\n  __syncthreads();",
            "if (lane == 0) parts[warp] = x;",
        ),
    },
    Fault {
        name: "missing_barrier_before_reuse",
        precision: "F32",
        tests: "cuda_layer_norm_tiny_f32",
        edit: ("prelude.cuh", "__syncthreads();  // the last reduction may still be reading", ""),
    },
    Fault {
        name: "barrier_not_reached_by_all",
        precision: "F32",
        tests: "cuda_layer_norm_tiny_f32",
        edit: (
            "prelude.cuh",
            "if (lane == 0) parts[warp] = x;\n  __syncthreads();",
            "if (lane == 0) {\n    parts[warp] = x;\n    __syncthreads();\n  }",
        ),
    },
    Fault {
        name: "missing_wait_for_a_copy",
        precision: "BF16",
        tests: "cuda_attention_tiny_bf16",
        edit: ("attention_mma.cu", "cp_async_wait<0>();", ""),
    },
    Fault {
        name: "fragment_not_transposed",
        precision: "BF16",
        tests: "cuda_attention_tiny_bf16",
        edit: (
            "attention_mma.cu",
            "load_b_plain(b, tile, pitch<D>(), first + 16 * n, d);",
            "load_b(b, tile, pitch<D>(), first + 16 * n, d);",
        ),
    },
    Fault {
        name: "padding_counted",
        precision: "BF16",
        tests: "cuda_attention_head_80_bf16",
        edit: (
            "attention_mma.cu",
            "s[t][e] = j < n ? x * LOG2_E : -INFINITY;",
            "s[t][e] = x * LOG2_E;",
        ),
    },
    Fault {
        name: "next_stage_not_loaded",
        precision: "BF16",
        tests: "cuda_attention_1601_tokens",
        edit: ("attention_mma.cu", "if (first_load || stage < tokens) {", "if (first_load) {"),
    },
    Fault {
        name: "missing_wait_for_a_tile",
        precision: "BF16",
        tests: "cuda_conv2d_k3_wide_residual_bf16",
        edit: ("conv2d_mma.cu", "cp_async_wait<STAGES - 2>();", ""),
    },
    Fault {
        name: "tile_read_before_all_have_copied",
        precision: "BF16",
        tests: "cuda_conv2d_k3_wide_residual_bf16",
        edit: ("conv2d_mma.cu", "__syncthreads();  // this tile is there for all", "//"),
    },
    Fault {
        name: "wrong_index",
        precision: "F32",
        tests: "cuda_rel_pos_bias_",
        edit: ("rel_pos_bias.cu", "* heads + i / pairs]", "* heads + i % heads]"),
    },
    Fault {
        name: "read_beyond_a_buffer",
        precision: "F32",
        tests: "cuda_conv2d_k3",
        edit: ("conv2d.cu", "const bool inside = row >= 0", "const bool inside = true || row >= 0"),
    },
    Fault {
        name: "assigned_instead_of_added",
        precision: "F64",
        tests: "cuda_linear_odd_f64",
        edit: ("common.cu", "out[i] += sum;", "out[i] = sum;"),
    },
    Fault {
        name: "another_random_word",
        precision: "F32",
        tests: "cuda_gumbel_noise",
        edit: ("philox.cuh", "round < 10", "round < 9"),
    },
    Fault {
        name: "stale_ptx",
        precision: "F32",
        tests: "cuda_relu_odd_f32",
        edit: ("relu.cu", "elem* y, Index n)", "elem* y, Index n, Index step)"),
    },
];

impl Fault {
    /// Builds the damaged emulator and runs the tests on it.
    fn check(&self) -> Result<(), Failed> {
        let folder = tempfile::tempdir()?;
        cuda_emu::build_with(&[self.edit], &[self.precision], folder.path())?;
        let others = ["F64", "F32", "BF16"].into_iter().filter(|p| *p != self.precision);
        let run = Command::new(std::env::current_exe()?)
            .arg(self.tests)
            .args(others.map(|p| format!("--skip=_{}", p.to_lowercase())))
            .arg("--skip=cuda_fault_")
            .env(cuda_emu::FOLDER, folder.path())
            .output()?;
        let text = String::from_utf8_lossy(&run.stdout);
        if text.contains("running 0 tests") {
            return Err(format!("no test is named {}", self.tests).into());
        }
        if run.status.success() { Err(format!("not noticed:\n{text}").into()) } else { Ok(()) }
    }
}

/// One test per fault.
pub fn trials() -> impl Iterator<Item = Trial> {
    FAULTS.iter().map(|f| Trial::test(format!("cuda_fault_{}", f.name), || f.check()))
}
