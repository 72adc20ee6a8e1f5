//! Pickles made to cost more than they are long; what reading takes is bounded by counts, not by a clock.

use super::bounds::{Bounds, NAME, TEXT};
use super::pickle::follow;
use super::walk;

const FEW: Bounds = Bounds { cells: 4_000, steps: 10_000, kept: 20_000, visits: 5_000 };

fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A tensor of two numbers of the key 0.
fn tensor() -> Vec<u8> {
    let numbers = [b"((", &text("storage")[..], b"ctorch\nFloatStorage\n"].concat();
    let numbers = [&numbers, &text("0")[..], &text("cpu"), b"K\x02tQ"].concat();
    [b"ctorch._utils\n_rebuild_tensor_v2\n", &numbers[..], b"K\0K\x02\x85K\x01\x85\x89}tR"].concat()
}

fn pickle(parts: &[&[u8]]) -> Vec<u8> {
    [&b"\x80\x02"[..], &parts.concat(), b"."].concat()
}

fn read(bytes: &[u8], bounds: Bounds) -> Result<Vec<String>, String> {
    let described = follow(bytes, bounds)?;
    let mut locate = |_: super::element::StorageType, _: &str, _: u64| Ok(100..108);
    let found = walk::tensors(&described.graph, described.root, &mut locate, bounds)?;
    Ok(found.tensors.into_keys().collect())
}

#[track_caller]
fn refused(bytes: &[u8], want: &str) {
    let text = read(bytes, FEW).expect_err("refused");
    assert!(text.contains(want) && text.len() < 600, "want {want:?} in {text:?}");
}

#[test]
fn tensors_have_joined_names() {
    let inner = [b"}(", &text("b")[..], &tensor(), &text("c"), b"K\x01u"].concat();
    let bytes = pickle(&[b"}(", &text("a"), &inner, b"K\x05", &tensor(), &text("n"), b"Nu"]);
    assert_eq!(read(&bytes, FEW).unwrap(), ["5", "a.b"]);
}

#[test]
fn what_a_pickle_makes_is_bounded() {
    let many = |part: &[u8]| pickle(&[b"]", &part.repeat(200_000)]);
    for part in [&b")"[..], b"N", b"(", b"}", b"Na", b"K\x01\x85"] {
        refused(&many(part), "describes more than");
    }
    // Nothing is made, only done.
    refused(&many(b"q\0"), "has more than");
    refused(&pickle(&[b"Nr\xff\xff\xff\xff"]), "describes more than");
    refused(&pickle(&[b"]", &b"\x85".repeat(100)]), "nests deeper than 64");
    refused(&pickle(&[&b"}K\0".repeat(100), b"}", &b"s".repeat(100)]), "nests deeper than 64");
    refused(&pickle(&[&text(&"a".repeat(TEXT + 1))]), "at most 1048576 are read");
    refused(&pickle(&[b"]q\0h\0a"]), "into itself");
}

/// A dict in which each of `levels` dicts holds the next one under two keys.
fn doubling(levels: usize, key: &str) -> Vec<u8> {
    let mut at = [b"}", &text("w")[..], &tensor(), b"sq\0"].concat();
    for _ in 0..levels {
        let two = [b"}(", &text("a")[..], b"h\0", &text(key), b"h\0uq\0"].concat();
        at.extend(two);
    }
    pickle(&[&at])
}

#[test]
fn what_is_shared_is_looked_at_a_bounded_number_of_times() {
    assert_eq!(read(&doubling(5, "b"), FEW).unwrap().len(), 32);
    refused(&doubling(7, "b"), "holds more than");
    let empty = Bounds { kept: usize::MAX, ..FEW };
    assert!(read(&doubling(40, "b"), empty).unwrap_err().contains("shares more than"));
    refused(&doubling(1, &"b".repeat(NAME + 1)), "has a name of 1025 bytes");
    refused(&doubling(3, &"b".repeat(NAME / 2)), "has a name of more than 1024 bytes");
    // Round and round, by way of another dict.
    let round = pickle(&[b"}q\0", &text("a"), b"}q\x01", &text("b"), b"h\0ss"]);
    refused(&round, "lies within itself");
}

#[test]
fn bounds_follow_the_length_of_the_file_and_nothing_else() {
    let small = Bounds::of(100);
    assert_eq!((small.cells, small.kept), (65_536, 2 << 20));
    assert_eq!(Bounds::of(8 << 20), small);
    let large = Bounds::of(64 << 20);
    assert_eq!((large.cells, large.kept), (524_288, 16 << 20));
    // What one instruction or one visit does takes some tens of nanoseconds.
    let huge = Bounds::of(usize::MAX);
    assert!(huge.steps <= 1 << 20 && huge.cells <= 1 << 20 && huge.visits <= 1 << 18);
}

#[test]
fn keys_are_there_once_and_calls_are_of_names() {
    let twice = pickle(&[b"}(", &text("a"), &tensor(), &text("a"), &tensor(), b"u"]);
    refused(&twice, "has the key a twice");
    let joined = [b"}", &text("b")[..], &tensor(), b"s"].concat();
    let twice = pickle(&[b"}(", &text("a"), &joined, &text("a.b"), &tensor(), b"u"]);
    refused(&twice, "tensor a.b: is there twice");
    let roots = pickle(&[b"}(", &text("model"), b"}", &text("model"), b"}u"]);
    refused(&roots, "has the key model twice");
    for (parts, want) in [
        (&b"N)R"[..], "calls what is no name"),
        (b"ctorch\ndevice\nNR", "calls what is no name"),
        (b"ctorch\ndevice\n]R", "calls with what is no tuple"),
        (b"}}(NeN", "neither a dict nor a list"),
        (b"ctorch.nn.modules.linear\nIdentity\n)\x81NbNb", "has none"),
        (b"]N\x86(R", "takes more than there is"),
        (b"(Nh", "takes what it did not keep"),
        (b"}(Nu", "a key without a value"),
        (b"cnumpy\nload\n", "asks for numpy.load"),
        (
            b"ctorch._utils\n_rebuild_sparse_tensor\n",
            "asks for torch._utils._rebuild_sparse_tensor",
        ),
        (b"\x95", "the instruction 0x95"),
    ] {
        refused(&pickle(&[parts]), want);
    }
}
