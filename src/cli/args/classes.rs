//! `--class` and `--guidance`: the classes of images, and the strength of the guidance towards them.

use std::path::PathBuf;

use clap::Args;

/// Classes of images, for networks that were trained with classes.
#[derive(Args, Debug, Default)]
pub struct ClassFlags {
    /// Classes by number, as in 207 or 0-9 or 1,3, or none, the network's null class: image i (or seed i) is of the
    /// i-th class, and the list begins again at its end
    #[arg(long, value_name = "C[,C…]", help_heading = "Classes")]
    pub class: Option<String>,
}

/// Settings of guidance towards classes.
#[derive(Args, Debug, Default)]
pub struct GuidanceFlags {
    /// Adds W ∇ log p(class | x) to the score. p follows from the network's answers with and without the class: other
    /// programs' guidance scale is 1 + W, and W = −1 leaves only the answer without the class [default: 0]
    #[arg(long, value_name = "W", allow_negative_numbers = true, help_heading = "Classes")]
    pub guidance: Option<f64>,
    /// Guides only where LOW < σ ≤ HIGH, in data units (−1 … 1)
    #[arg(
        long,
        value_name = "LOW,HIGH",
        value_delimiter = ',',
        num_args = 1,
        requires = "guidance",
        help_heading = "Classes"
    )]
    pub guidance_range: Vec<f64>,
    /// Takes the answers without the class from this model, in place of the network's own for its null class
    #[arg(long, value_name = "MODEL", requires = "guidance", conflicts_with = "classifier", help_heading = "Classes")]
    pub unconditional: Option<String>,
    /// Takes p from this TorchScript program: forward(x, label) → logits, with x and label as the network receives them
    #[arg(long, value_name = "FILE.pt", requires = "guidance", help_heading = "Classes")]
    pub classifier: Option<PathBuf>,
}
