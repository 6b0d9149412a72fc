//! Writes a log of a project that never was: `generate DIR [SEED] [tiny|small|go] [segments|days]`.
#![expect(clippy::print_stdout, reason = "says what it wrote")]

use std::{env, path::Path};

use maintner::generate::{Layout, Scale, write};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let argument = |at: usize, default| arguments.get(at).map_or(default, String::as_str);
    let dir = arguments.first().ok_or("usage: generate DIR [SEED] [tiny|small|go] [segments|days]")?;
    let seed = argument(1, "1").parse()?;
    let scale = Scale::named(argument(2, "small")).ok_or("the scale is tiny, small or go")?;
    let layout = match argument(3, "segments") {
        "segments" => Layout::Segments,
        "days" => Layout::Days,
        _ => return Err("the layout is segments or days".into()),
    };
    let written = write(Path::new(dir), seed, scale, layout)?;
    println!("{} mutations, {} bytes", written.position, written.bytes);
    Ok(())
}
