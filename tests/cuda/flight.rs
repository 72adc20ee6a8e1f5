//! The loop where two steps are in flight: it says and learns what it does on a device that it waits for.

use crate::toy::{BROKEN, run, settings_of};
use crate::{device, text};
use beit::cpu::Cpu;
use beit::cuda::Cuda;
use cuda_emu::Order;
use libtest_mimic::Failed;

/// A step that is not finite is judged with the weights that it began with, though the next one is under way
/// when that shows, and skipped where it may be.
pub fn judged_with_its_own_weights() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let (cpu, cuda) = (Cpu::<f32>::new(), Cuda::<f32>::on(&device(Order::Forward)?).map_err(text)?);
    let stops = settings_of(BROKEN, 0, 0);
    let at = |name: &str| folder.path().join(name);
    let said = [run(&cpu, &stops, &at("a"), false), run(&cuda, &stops, &at("b"), false)]
        .map(|end| end.err().map_or("it ends well".to_owned(), |error| error.to_string()));
    if said[0] != said[1]
        || !said[1].starts_with("step 5 is not finite; the first tensor is number 1")
    {
        return Err(format!("on the CPU: {}\non CUDA: {}", said[0], said[1]).into());
    }
    let skips = settings_of(BROKEN, 1, 0);
    let ends = [run(&cpu, &skips, &at("c"), false), run(&cuda, &skips, &at("d"), false)];
    let [Ok(Some(cpu)), Ok(Some(cuda))] = ends else { return Err(format!("{ends:?}").into()) };
    // NaN must not pass.
    let near = (cpu.w - cuda.w).abs() < 1e-5 && (cpu.teacher - cuda.teacher).abs() < 1e-5;
    if near { Ok(()) } else { Err(format!("on the CPU: {cpu:?}, on CUDA: {cuda:?}").into()) }
}
