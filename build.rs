//! Builds the binary anew when the embedded web page has changed, in name or content.

fn main() {
    // While there is no page, watching for one means watching the folder that it will appear in.
    let page = if std::path::Path::new("web/dist").exists() { "web/dist" } else { "web" };
    println!("cargo::rerun-if-changed={page}");
    println!("cargo::rerun-if-changed=build.rs");
}
