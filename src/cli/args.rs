//! What can be said on the command line.

mod ablate;
mod bench;
mod elbo;
mod exchange;
mod fill;
mod pages;
mod settings;
mod uses;
mod values;

pub use ablate::AblateArgs;
pub use bench::{BenchCommand, OpsArgs, ReportArgs, StepArgs};
pub use elbo::ElboArgs;
pub use exchange::{ExportArgs, ImportArgs};
pub use fill::FillArgs;
pub use pages::{AtlasArgs, AttentionArgs, MapArgs, ReconstructArgs};
pub use settings::{
    BertArgs, FinetuneArgs, PretrainArgs, ProbeArgs, SegmentTrainArgs, TokenizerArgs, ViewsArgs,
};
pub use uses::{
    ArrayArgs, EmbedArgs, EvaluateArgs, PredictArgs, SegmentArgs, StreamArgs, TokenizeArgs,
    UseArgs, WindowArgs,
};

use crate::cli::data::DataCommand;
use crate::config::Place;
use crate::report::about::VERSION;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use std::path::PathBuf;
use values::cpu_or_gpu;

/// BEiT, BERT pre-training of image transformers: tokenizer, masked image modelling, probe and
/// pictures, every forward and backward written by hand.
#[derive(Parser)]
#[command(version = VERSION, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// The whole road on built-in images: tokenizer, pretraining, probe, fine-tuning, report. About 4 minutes.
    #[command(after_help = "Example:\n  beit demo --out runs/demo")]
    Demo(DemoArgs),
    /// Train a visual tokenizer (discrete VAE) on a source of images.
    #[command(after_help = "Example:\n  beit train-tokenizer --data photos/ --out runs/tokenizer")]
    TrainTokenizer(TokenizerArgs),
    /// Pretrain a BEiT by predicting the tokens of masked patches.
    #[command(after_help = "Example:\n  beit pretrain --data photos/ --tokenizer runs/tokenizer \
                            --out runs/beit")]
    Pretrain(PretrainArgs),
    /// Pretrain an encoder by DINO: to say of a view what its teacher says of other views of the image.
    #[command(
        after_help = "Example:\n  beit dino --data photos/ --out runs/dino\n\nWhat is saved is the teacher's encoder; \
                      `beit probe`, `beit finetune` and the others take it as they take one of `beit pretrain`."
    )]
    Dino(ViewsArgs),
    /// Pretrain an encoder by MoCo v3: to tell the other view of an image from those of other images.
    #[command(
        after_help = "Example:\n  beit mocov3 --data photos/ --out runs/moco\n\nWhat is saved is the encoder; \
                      `beit probe`, `beit finetune` and the others take it as they take one of `beit pretrain`."
    )]
    Mocov3(ViewsArgs),
    /// Train BERT on the bytes of a text: the encoder of images says which bytes are hidden.
    #[command(
        after_help = "Example:\n  beit bert --data book.txt --out runs/bert\n\nThe report compares it with trigrams of the \
                      same text; `beit fill` fills texts of one's own."
    )]
    Bert(BertArgs),
    /// Say which bytes are hidden in a text: the text filled, and the most probable bytes of each place.
    #[command(
        after_help = "Examples:\n  beit fill --model runs/bert \"the wh_te wh_le\"\n  beit fill --model runs/bert \
                      --mark @ --top 3 \"the wh@te whale\"\n\nEach mark is one byte, and a letter beyond \
                      ASCII two or more. Hidden bytes are filled one by one, the surest first; the probabilities are \
                      those while all are hidden."
    )]
    Fill(FillArgs),
    /// Train a pretrained encoder on as a classifier of labelled images.
    #[command(
        after_help = "Examples:\n  beit finetune --model runs/beit --train photos/train --val photos/val --out \
                            runs/classifier\n  beit finetune --model runs/beit --freeze encoder --train photos/ \
                            --out runs/head\n  beit finetune --model scratch --train synthetic:2000 --out \
                            runs/scratch"
    )]
    Finetune(FinetuneArgs),
    /// Train a pretrained encoder on as a segmenter: a class for each pixel.
    #[command(
        after_help = "Examples:\n  beit segment-train --model runs/beit --train ADEChallengeData2016/ --out \
                            runs/segmenter\n  beit segment-train --model runs/beit \
                            --train synthetic:2000 --out runs/shapes\n\nA source is a folder like ADE20K's \
                            (images/training, annotations/training and the same of validation), a folder with \
                            images/ and masks/ of the same names, or synthetic[:COUNT]. --val may be the same \
                            folder: its validation part is taken."
    )]
    SegmentTrain(SegmentTrainArgs),
    /// Say which class each pixel of images is of: a mask for each image, and what it looks like.
    #[command(
        after_help = "Examples:\n  beit segment --model runs/segmenter cat.jpg --out masks\n  beit segment --model \
                            runs/segmenter photos/ --ratios 0.75,1,1.25 --flip --out masks\n\nmasks/NAME.png has \
                            the number of the class of each pixel and its colour, overlays/NAME.png the image \
                            under the colours; images.txt says which image each name is of."
    )]
    Segment(SegmentArgs),
    /// Compare BEiT's choices on images of one's own: pretraining and fine-tuning for each, one table.
    #[command(
        after_help = "Examples:\n  beit ablate --data photos/train --test photos/test --out runs/ablation\n  beit ablate \
                      --data photos/ --test other-photos/ --rows beit,pixels --seeds 1 --out runs/rows"
    )]
    Ablate(AblateArgs),
    /// Read the classes off a frozen encoder: linear probe on every block, and k-NN.
    #[command(
        after_help = "Examples:\n  beit probe --model runs/beit --train photos/train --test \
                            photos/test\n  beit probe --model random --preset tiny --train \
                            synthetic:2000 --test synthetic:500\n  beit probe --model runs/beit \
                            --train photos/ --test other-photos/ --common-classes"
    )]
    Probe(ProbeArgs),
    /// Say which classes images are of, with probabilities: a row for each, in their order.
    #[command(
        after_help = "Examples:\n  beit predict --model runs/classifier cat.jpg\n  beit predict --model \
                            runs/classifier photos/ cat.jpg --top 3 --format csv --out classes.csv\n\nAn image that \
                            cannot be read is named on standard error and has a row that says why; the status \
                            is 1 where these are more than --max-bad allows, or all."
    )]
    Predict(PredictArgs),
    /// Measure a classifier or a segmenter on labelled images, from its weights alone.
    #[command(
        after_help = "Examples:\n  beit evaluate --model runs/classifier --data photos/test --out \
                            evaluation\n  beit evaluate --model runs/segmenter --data ADEChallengeData2016/ \
                            --out evaluation"
    )]
    Evaluate(EvaluateArgs),
    /// Write the features of images, the output of one block, as an array.
    #[command(
        after_help = "Examples:\n  beit embed --model runs/beit --data photos/ --out features\n  beit embed --model \
                            runs/classifier --data photos/ --block 2 --what patches --out patches\n\nfeatures.npy is [images, C], with --what patches [images, Np, C], in f32 \
                            and before any norm; row i is of the image in line i of paths.txt. Images that cannot \
                            be read are left out and listed in unreadable.txt."
    )]
    Embed(EmbedArgs),
    /// Write the visual tokens of images as an array.
    #[command(
        after_help = "Example:\n  beit tokenize --tokenizer runs/tokenizer --data photos/ --out tokens\n\ntokens.npy \
                            is [images, rows, columns], in 16 bits for a vocabulary of up to 65536, else in 32; \
                            grid i is of the image in line i of paths.txt. Images that cannot be read are left \
                            out and listed in unreadable.txt."
    )]
    Tokenize(TokenizeArgs),
    /// Draw where each head of a block looks from one patch, or make a page where one picks the patch.
    #[command(
        after_help = "Examples:\n  beit attention --model runs/beit --image cat.jpg --out cat.html\n  beit attention \
                            --model runs/beit --image cat.jpg --image-size 64 --layer 0,1 --out cat.html\n  beit \
                            attention --model runs/beit --image cat.jpg --patch 3,4 --out cat.png"
    )]
    Attention(AttentionArgs),
    /// Draw originals and their tokens decoded and, with an encoder, what it sees and predicts.
    #[command(
        after_help = "Examples:\n  beit reconstruct --tokenizer runs/tokenizer --model runs/beit --data photos/ --out \
                            grid.png\n  beit reconstruct --tokenizer tokenizer --model beit --data photos/ --ratios \
                            0.2,0.8 --out a.html"
    )]
    Reconstruct(ReconstructArgs),
    /// Make a page of a tokenizer's codebook: each code decoded, its use, patches that have it, neighbours.
    #[command(
        after_help = "Example:\n  beit atlas --tokenizer runs/tokenizer --data photos/ --out codes.html"
    )]
    Atlas(AtlasArgs),
    /// Make a page of a data set as an encoder arranges it: principal axes of embeddings, an image at each mark.
    #[command(
        after_help = "Examples:\n  beit map --model runs/beit --data photos/ --out map.html\n  beit map --model \
                            runs/beit --data photos/ --block 1 --what class --images 500 --out map.html"
    )]
    Map(MapArgs),
    /// Measure the bound of the two stages on ln p(x), in nats per image and bits per dimension.
    #[command(
        after_help = "Example:\n  beit elbo --tokenizer runs/tokenizer --model runs/beit --data \
                            photos/ --out bound"
    )]
    Elbo(ElboArgs),
    /// Make a model of this program of another project's: transformers, unilm, timm, DALL-E.
    #[command(
        after_help = "Examples:\n  beit import beit-base-patch16-224-pt22k/ --out runs/base\n  beit import \
                      beit_base_patch16_224_pt22k.pth --out runs/base\n  beit import dalle/ --out runs/tokenizer\n\nAll \
                      commands that take a model take such files too. Of a PyTorch file tensors are read and nothing \
                      is executed."
    )]
    Import(ImportArgs),
    /// Write a model as files of another project: transformers, unilm, timm, DALL-E, ONNX.
    #[command(
        after_help = "Examples:\n  beit export --model runs/classifier --format hf --out classifier-hf\n  beit export \
                      --model runs/tokenizer --format onnx --out tokenizer-onnx"
    )]
    Export(ExportArgs),
    /// Check every hand-written gradient against differences and exact derivatives in f64.
    #[command(after_help = "Examples:\n  beit gradcheck\n  beit gradcheck attention --json \
                            a.json\n  beit gradcheck --device cuda --parity")]
    Gradcheck(GradcheckArgs),
    /// Time ops, training steps or the data pipeline.
    #[command(subcommand, after_help = "Example:\n  beit bench step --preset tiny --batch 64")]
    Bench(BenchCommand),
    /// Say what a source of images holds, before a run.
    #[command(subcommand, after_help = "Example:\n  beit data check photos/")]
    Data(DataCommand),
    /// Say what a run folder or a weight file holds.
    #[command(after_help = "Example:\n  beit info runs/beit")]
    Info(InfoArgs),
    /// List every setting and its value in each preset, for the commands that have presets.
    #[command(after_help = "Example:\n  beit presets")]
    Presets,
    /// Print a script that completes this program's commands and flags in a shell.
    #[command(
        after_help = "Examples:\n  beit completions bash > beit.bash\n  beit completions zsh > _beit\n\n                      bash reads the first with `source beit.bash`; zsh takes the second from a folder in                       its fpath."
    )]
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Arguments of `demo`.
#[derive(Args)]
pub struct DemoArgs {
    /// Folder of the run.
    #[arg(long, default_value = "runs/demo")]
    pub out: PathBuf,
    /// Continue a demo that was stopped.
    #[arg(long)]
    pub resume: bool,
    /// Threads; 0 is one per core.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub device: Place,
}

/// Arguments of `gradcheck`.
#[derive(Args)]
pub struct GradcheckArgs {
    /// Only cases whose name contains this.
    pub filter: Option<String>,
    /// Every comparison as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Folder for a page with a V-curve of every tensor, all numbers as JSON, and a JUnit file.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Whose gradients: those of the CPU, or of a GPU, as in cuda:1.
    #[arg(long, default_value = "cpu", value_parser = cpu_or_gpu)]
    pub device: Place,
    /// With --device cuda: instead of differences, compare f64, f32 and bf16 with the CPU in f64.
    #[arg(long)]
    pub parity: bool,
    /// With --parity: also how often this tokenizer gives the same token in bf16 and in f32.
    #[arg(long, value_name = "RUN|FILE", requires_all = ["parity", "data"])]
    pub tokenizer: Option<PathBuf>,
    /// Images for --tokenizer.
    #[arg(long, value_name = "SRC", requires = "tokenizer")]
    pub data: Option<String>,
}

/// Arguments of `info`.
#[derive(Args)]
pub struct InfoArgs {
    /// A run folder or a file of weights, also another project's.
    #[arg(value_name = "RUN|FILE")]
    pub path: PathBuf,
}
