//! Tasks: the operators, those that a file defines, and compositions.

#[allow(clippy::wildcard_imports, reason = "the table names what is in it")]
use crate::inverse::operators::*;
use crate::{
    inverse::operators::operator_rows,
    numbers::registry::{Info, modules, one_of},
};

/// The table of tasks that are made from files or from other tasks: each file, and the struct in it.
macro_rules! task_rows {
    ($then:ident $(, $($rest:tt)+)?) => {
        $then! { $($($rest)+,)? {
            mask: InpaintMask,
            mri_mask: MriMask,
            torchscript: Torchscript,
            compose: Compose,
        } }
    };
}

task_rows!(modules);

operator_rows!(task_rows, one_of, {
    /// The entries that `task:` may name.
    pub enum AnyTask: Task = "task", others: OTHERS
});

/// Names of the tasks whose singular vectors are known, and of those that know them in some forms alone, with the form.
pub fn decomposed() -> String {
    let map = |info: &&Info| info.facts.iter().find(|(name, _)| *name == "map").map_or("", |(_, map)| *map);
    let entry = |info: &&'static Info| {
        let (_, form) = map(info).split_once("svd")?;
        Some(format!("{}{}", info.name, form))
    };
    AnyTask::LIST.entries.iter().filter_map(entry).collect::<Vec<_>>().join(", ")
}

/// Tasks of other packages whose names say less than is needed.
const OTHERS: &[(&str, &str)] = &[
    ("inpainting", "there are inpaint-random, inpaint-box, inpaint-extreme, inpaint-half and inpaint-mask"),
    ("deblur", "there are deblur-gaussian, deblur-motion, deblur-uniform and deblur-anisotropic"),
    ("deblurring", "there are deblur-gaussian, deblur-motion, deblur-uniform and deblur-anisotropic"),
    ("sr", "it is `super-resolution`"),
    ("ct", "it is `tomography`"),
];
