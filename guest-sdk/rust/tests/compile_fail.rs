//! Mistakes that the compiler has to find, with the words it finds them in. The golden files beside the cases belong to
//! the toolchain that `rust-toolchain.toml` names.

#[test]
fn mistakes() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
