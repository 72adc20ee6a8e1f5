//! What other programs call our settings, for those who come from there.

use super::key::nearest;

/// Another name and ours: of torch, timm, transformers, and the original code's command line.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("learning_rate", "lr"),
    ("repeated_aug", "repeats"),
    ("base_lr", "lr"),
    ("peak_lr", "lr"),
    ("max_lr", "lr"),
    ("lr_min", "min_lr"),
    ("final_lr", "min_lr"),
    ("batch_size", "batch"),
    ("train_batch_size", "batch"),
    ("per_device_train_batch_size", "batch"),
    ("gradient_accumulation_steps", "accumulate"),
    ("grad_accum", "accumulate"),
    ("accum_iter", "accumulate"),
    ("num_epochs", "epochs"),
    ("num_train_epochs", "epochs"),
    ("max_epochs", "epochs"),
    ("warmup", "warmup_steps"),
    ("num_warmup_steps", "warmup_steps"),
    ("warmup_iters", "warmup_steps"),
    ("warmup_epoch", "warmup_epochs"),
    ("adam_beta1", "beta1"),
    ("adam_beta2", "beta2"),
    ("adam_epsilon", "eps"),
    ("opt_eps", "eps"),
    ("epsilon", "eps"),
    ("wd", "weight_decay"),
    ("l2", "weight_decay"),
    ("clip_grad", "clip"),
    ("grad_clip", "clip"),
    ("max_grad_norm", "clip"),
    ("model_ema", "ema"),
    ("ema_decay", "ema"),
    ("random_seed", "seed"),
    ("num_workers", "threads"),
    ("workers", "threads"),
    ("dtype", "precision"),
    ("amp", "precision"),
    ("gpu", "device"),
    ("data_path", "data"),
    ("dataset", "data"),
    ("data_dir", "data"),
    ("input_size", "image_size"),
    ("img_size", "image_size"),
    ("resolution", "image_size"),
    ("patch", "patch_size"),
    ("hidden_size", "width"),
    ("embed_dim", "width"),
    ("dim", "width"),
    ("n_hid", "width"),
    ("n_init", "init_width"),
    ("num_hidden_layers", "depth"),
    ("num_layers", "depth"),
    ("layers", "depth"),
    ("num_attention_heads", "heads"),
    ("num_heads", "heads"),
    ("vocab_size", "vocab"),
    ("num_tokens", "vocab"),
    ("codebook_size", "vocab"),
    ("n_blk_per_group", "blocks"),
    ("num_groups", "groups"),
    ("drop_path_rate", "drop_path"),
    ("stochastic_depth", "drop_path"),
    ("layer_scale_init_value", "layer_scale"),
    ("init_values", "layer_scale"),
    ("num_mask_patches", "masked_patches"),
    ("min_mask_patches_per_block", "mask_min_block"),
    ("max_mask_patches_per_block", "mask_max_block"),
    ("gradient_checkpointing", "recompute"),
    ("use_checkpoint", "recompute"),
    ("save_steps", "checkpoint_every"),
    ("save_every", "checkpoint_every"),
    ("logging_steps", "log_every"),
    ("print_freq", "log_every"),
    ("hflip", "flip"),
    ("gumbel_temperature", "temperature_start"),
    ("temperature", "temperature_start"),
    ("kl_loss_weight", "kl_weight"),
    ("discrete_vae_weight_path", "tokenizer"),
    ("k", "knn_k"),
];

/// `; did you mean X?` for the key of `keys` whose name, here or elsewhere, is nearest to `given`.
pub(super) fn key_suggestion(given: &str, keys: &[&'static str]) -> String {
    let given = given.to_lowercase().replace(['-', '.', ' '], "_");
    let elsewhere = OTHER_NAMES.iter().filter(|(_, key)| keys.contains(key)).copied();
    let names: Vec<(&str, &str)> = keys.iter().map(|&key| (key, key)).chain(elsewhere).collect();
    let Some(name) = nearest(&given, names.iter().map(|(name, _)| *name)) else {
        return String::new();
    };
    let key = names.iter().find(|(other, _)| *other == name).map_or(name, |(_, key)| key);
    format!("; did you mean {key}?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FinetuneRun, PretrainRun, ProbeRun, RunConfig, TokenizerRun};

    fn keys<C: RunConfig>() -> Vec<&'static str> {
        C::KEYS.iter().map(|key| key.name).collect()
    }

    #[test]
    fn every_other_name_leads_to_a_key() {
        let commands = [
            keys::<TokenizerRun>(),
            keys::<PretrainRun>(),
            keys::<FinetuneRun>(),
            keys::<ProbeRun>(),
        ];
        for (other, key) in OTHER_NAMES {
            let with: Vec<_> = commands.iter().filter(|keys| keys.contains(key)).collect();
            assert!(!with.is_empty(), "{key} is no key");
            for keys in with {
                assert!(!keys.contains(other), "{other} is a key itself");
                for given in [other.to_string(), other.replace('_', "-"), other.to_uppercase()] {
                    let text = key_suggestion(&given, keys);
                    assert_eq!(text, format!("; did you mean {key}?"), "for {given}");
                }
            }
        }
    }

    #[test]
    fn misspelt_names_lead_there_too() {
        let keys = keys::<PretrainRun>();
        for (given, want) in [
            ("lerning_rate", "lr"),
            ("learningrate", "lr"),
            ("batchsize", "batch"),
            ("batch-size", "batch"),
            ("weight-decay", "weight_decay"),
            ("epoch", "epochs"),
            ("warmup", "warmup_steps"),
            ("warm_up", "warmup_steps"),
            ("num_head", "heads"),
            ("wieght_decay", "weight_decay"),
        ] {
            assert_eq!(key_suggestion(given, &keys), format!("; did you mean {want}?"), "{given}");
        }
        assert_eq!(key_suggestion("completely_other_word", &keys), "");
    }
}
