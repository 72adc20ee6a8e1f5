#!/usr/bin/env bash
# Mutates every backward pass in src/ops and src/layers, CPU side, with what it rests on, and the optimizer; and
# sees whether the gradient checks notice. Needs cargo-mutants (cargo install cargo-mutants --locked) and python3.
#
#   tests/mutants.sh        all mutants, one at a time; writes tests/mutants/result.json
#   tests/mutants.sh again  those that tests/mutants/result.json lists as missed, and adds the outcome
#   tests/mutants.sh 1/4    one of four even shares (0/4 to 3/4), for several processes or days; then
#                           python3 tests/mutants/summarise.py target/mutants/*-of-4
#
# A mutant of an op is judged by that op's own cases in tests/gradients.rs, one of a layer by the cases of
# all layers, or of the models where the layer has none. What is missed there is tried again on the unit
# tests beside the op: where forward and backward share a function, a mutant of it is another function
# with a right gradient, which only numbers tell from the one that was meant. The optimizer has no gradient: it
# is judged by the trajectory of tests/reference. What no change of a sign expresses, in calls of products
# above all, is in tests/mutants/semantic.toml.
# The work is done in a copy of the tree below target/, in which
# * `simd_fn!` is taken off the functions of src/ops: cargo-mutants does not look inside macros, and
#   all instruction sets of such a function give the same bits;
# * the table of src/ops/mod.rs is followed by the modules that it makes, for the same reason;
# * src/main.rs is missing, so that cargo does not link the program for every mutant;
# * the crate is compiled without optimisation and its dependencies with it: seconds per mutant.
set -euo pipefail
cd "$(dirname "$0")/.."
shard=${1:-0/1}
again=
case $shard in again) again=1 shard=0/1 ;; */*) ;; *) echo "usage: tests/mutants.sh [again|K/N]" >&2; exit 2 ;; esac
cargo mutants --version >/dev/null || { echo "cargo install cargo-mutants --locked" >&2; exit 2; }

root=$PWD
work=$root/target/mutants/${again:+again-}${shard/\//-of-}
tree=$work/tree
rm -rf "$work/out" "$work/unit" "$work/src" "$tree/src" "$tree/tests"
mkdir -p "$tree" "$work/out" "$work/unit"
export RUST_MIN_STACK=16777216 # frames are large without optimisation
git ls-files -z | xargs -0 cp --parents -t "$tree"
rm "$tree/src/main.rs"
sed -i '/^\[\[bin\]\]$/,/^$/d' "$tree/Cargo.toml"
unroll='
  /^(crate::)?simd_fn! \{$/ { inside = 1; next }
  inside && /^}$/ { inside = 0; next }
  inside { sub(/^    /, "") }
  inside && /^(pub )?fn [a-z_0-9]+<T>\(/ { sub(/<T>\(/, "<T: crate::real::Real>(") }
  { print }'
(cd "$root" && grep -rlE '^(crate::)?simd_fn! \{' src/ops) | while read -r file; do
  awk "$unroll" "$root/$file" >"$tree/$file"
done
modules=$(sed -nE 's/^    ([a-z0-9_]+): [A-Za-z0-9]+Op,$/pub mod \1;/p' src/ops/mod.rs)
[ -n "$modules" ] || { echo "no table of ops in src/ops/mod.rs" >&2; exit 1; }
sed -i '/^ *\$(pub mod \$op;)\*$/d' "$tree/src/ops/mod.rs"
printf '%s\n' "$modules" >>"$tree/src/ops/mod.rs"
cp -r "$tree/src" "$work/src" # what the line numbers of the outcomes are of
cd "$tree"
cat >>Cargo.toml <<'TOML'
[profile.mutants]
inherits = "dev"
debug = false
[profile.mutants.package."*"]
opt-level = 3
TOML

# Backward passes, what only they call, how they are cut and where rows lie; the optimizer and the norm. Left
# out: functions whose values are asked of constructors that do not exist (`Tensor::new()`) or of a default that
# numbers do not have, which never compile; cases.
choose=(
  --re 'backward|norm_param_row|add_norm_param_grads|add_norm_input_grads|add_weight_gradient|flip'
  --re 'exp_in_place|scale_row|scale_and_subtract|logarithms|clamped|bias_row'
  --re 'in range$|in columns|replace columns|ConvertOp for Cpu|ResampleOp for Cpu|linear_gelu_forward'
  --re 'Dims::(group|tasks|scale)|Keep<|Geometry::(span|pad|pitch|bands|rows|padded)|replace add with'
  --re 'AdamW::bias_corrections|AdamWOp for Cpu|(in|replace) (update|average)( |$)|GlobalNormOp|Compact<'
  --exclude-re 'impl Case for|replace (large_|empty_)?cases?|Default::default\(\)'
  --exclude-re '(Tensor|Master|Losses|Range|Cow|[A-Za-z]*Cache)::(new|from|from_iter)\('
)
files=(--file 'src/ops/**' --file 'src/layers/**')
files+=(--exclude '**/cuda.rs' --exclude '**/case.rs')
test=(test --profile mutants --no-default-features)
share=(--shard "$shard" --sharding round-robin)
cargo mutants --list "${files[@]}" "${choose[@]}" >"$work/mutants"
missed() { python3 "$root/tests/mutants/summarise.py" --missed "$@"; }
if [ "$again" ]; then missed; else cut -d: -f1 "$work/mutants" | sort -u; fi | while read -r file; do
  [ "$again" ] && mapfile -t choose < <(missed "$file")
  mutants=$(cargo mutants --list --file "$file" "${choose[@]}" "${share[@]}" </dev/null)
  [ -n "$mutants" ] || continue
  program=gradients
  case $file in
    src/ops/adamw.rs) program=reference cases=06_optim::adamw ;;
    src/ops/*) op=${file#src/ops/} cases=${op%%[/.]*}/ ;;
    *) if grep -rq 'impl Case for' "${file%.rs}"*; then cases=layer_; else cases=model_; fi ;;
  esac
  # Where these failed already, or there were none, the counts would mean nothing.
  cargo "${test[@]}" --test "$program" -- "$cases" </dev/null >"$work/cases"
  grep -q '^test .*ok$' "$work/cases" || { echo "no case for $file" >&2; exit 1; }
  status=0
  cargo mutants --file "$file" "${choose[@]}" --in-place --baseline skip --timeout 600 \
    --build-timeout 300 "${share[@]}" --profile mutants \
    --cargo-arg=--no-default-features "--cargo-arg=--test=$program" --colors never \
    --output "$work/out/${file//\//.}" -- "$cases" </dev/null || status=$?
  case $status in 0 | 2 | 3) ;; *) exit "$status" ;; esac # 2: some missed, 3: some timed out
  missed=$work/out/${file//\//.}/mutants.out/missed.txt
  [ -s "$missed" ] || continue
  unit=${file#src/} && unit=${unit%.rs} && unit=${unit%/cpu} && unit=${unit//\//::}
  pick=() && while read -r name; do
    pick+=(--re "^$(printf %s "$name" | sed 's/[][\.*^$+?(){}|/]/\\&/g')\$")
  done <"$missed"
  status=0
  cargo mutants --file "$file" "${pick[@]}" --in-place --baseline skip --timeout 600 \
    --build-timeout 300 --profile mutants --cargo-arg=--no-default-features --cargo-arg=--lib \
    --colors never --output "$work/unit/${file//\//.}" -- "$unit::" </dev/null || status=$?
  case $status in 0 | 2 | 3) ;; *) exit "$status" ;; esac
done
cd "$root"
python3 tests/mutants/summarise.py ${again:+--again} "$work"
