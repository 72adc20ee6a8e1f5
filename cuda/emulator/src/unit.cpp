// The kernels in one precision, as build.rs compiles them: three times, with one of BEIT_F64,
// BEIT_F32, BEIT_BF16 defined.
//
// The three objects become one library. Their structs bear the same names but differ in layout, and
// so do the member functions, which the linker would merge. Nothing in an unnamed namespace is shared.
// System headers must not end up inside it: emu.h includes all of them first.
#include "emu.h"

namespace {
#include "unit.cu"
}
