//! `beit import` and `beit export`: weights from other projects and for them.

use super::args::{ExportArgs, ImportArgs};
use super::commands::{path, print_origin};
use crate::error::Result;
use crate::run::claim;
use crate::shown;
use crate::weights::exchange::{export, refuse_export, save_imported};
use crate::weights::{Stated, load_model, load_model_as};

/// `beit import`
pub fn import_model(args: &ImportArgs) -> Result<()> {
    let ImportArgs { format: project, image_size: image, heads, normalise, taps, .. } = *args;
    let model = load_model_as(&args.path, &Stated { project, image, heads, normalise, taps })?;
    let _lock = claim(&args.out)?;
    save_imported(&args.out, &model)?;
    say!("{}", model.config.describe());
    print_origin(&model);
    say!("{}: a model of this program now", path(&args.out));
    Ok(())
}

/// `beit export`
pub fn export_model(args: &ExportArgs) -> Result<()> {
    let model = load_model(&args.model)?;
    refuse_export(&model, args.format)?;
    let _lock = claim(&args.out)?;
    let lines = export(&model, args.format, &args.out)?;
    say!("{}:", path(&args.out));
    lines.iter().for_each(|line| say!("  {}", shown::line(line)));
    Ok(())
}
