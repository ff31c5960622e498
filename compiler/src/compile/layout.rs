//! Which encoding and order every tensor gets.

use sbnc_format::writer::TensorSpec;
use sbnc_format::{Encoding, Order, Packing, Pattern, Role};

use super::{FloatForm, Input, Options, Target, target};
use crate::checkpoint::Dtype;
use crate::error::{Error, Exit, Result};
use crate::family::{self, Plan, Planned};

/// How one tensor will be stored.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) role: Role,
    pub(super) packing: Packing,
}

impl Chosen {
    pub(super) fn spec(&self, planned: &Planned) -> TensorSpec {
        TensorSpec {
            name: planned.name.clone(),
            role: self.role,
            shape: planned.shape.clone(),
            encoding: self.packing.encoding,
            order: self.packing.order,
            pattern: self.packing.pattern,
        }
    }

    /// The name of the layout, for people.
    pub(super) fn name(&self) -> String {
        target::name_of((self.packing.encoding, self.packing.order))
    }
}

/// Chooses for all tensors of a plan.
pub(super) fn choose(plan: &Plan, input: &Input, options: &Options) -> Result<Vec<Chosen>> {
    let pattern = match plan.pattern {
        None => Pattern::DENSE,
        // N = M keeps everything, which is what dense means.
        Some((n, m)) => Pattern::new(n, m).unwrap_or(Pattern::DENSE),
    };
    let ternary = ternary_packing(pattern, options)?;
    plan.tensors
        .iter()
        .map(|planned| {
            let role = role_of(planned);
            if planned.is_ternary() {
                return Ok(Chosen { role, packing: ternary });
            }
            let form = match role {
                Role::Embedding => options.embed,
                Role::Head => options.head,
                _ => FloatForm::Keep,
            };
            let encoding = float_encoding(input.entry(&planned.name)?.dtype, form, &planned.name)?;
            Ok(Chosen { role, packing: Packing { encoding, order: Order::Rows, pattern: Pattern::DENSE } })
        })
        .collect()
}

/// What a target decided, where one was named.
pub(super) fn note(layouts: &[Chosen], options: &Options) -> Option<String> {
    let ternary = layouts.iter().find(|chosen| chosen.packing.encoding.is_ternary())?;
    let decided = options.target != Target::Auto && options.encoding.is_none();
    decided.then(|| {
        let (target, pattern) = (options.target.name(), ternary.packing.pattern);
        format!("compiled for the target {target}: trits of pattern {pattern} are stored as {}", ternary.name())
    })
}

/// What was asked for, and for the rest what suits the target.
fn ternary_packing(pattern: Pattern, options: &Options) -> Result<Packing> {
    let suited = options.target.packing(pattern);
    let encoding = options.encoding.unwrap_or(match options.order {
        None => suited.encoding,
        Some(order) if suited.encoding.allows(order) => suited.encoding,
        Some(Order::Rows) => Encoding::T5,
        Some(Order::Fragments | Order::Windows) => Encoding::NmVi,
    });
    let order = options.order.unwrap_or(match encoding {
        Encoding::NmVi if Encoding::NmVi.allows_pattern(Order::Fragments, pattern) => Order::Fragments,
        Encoding::NmVi => Order::Windows,
        _ => Order::Rows,
    });
    let packing = Packing { encoding, order, pattern };
    if packing.is_possible() {
        return Ok(packing);
    }
    let message = format!(
        "encoding {} in order {} cannot hold the pattern {pattern}; nm-6b and nm-vi/fragments hold 1:4 and 2:4, nm-vi/windows holds \
         4:6, 6:8 … 14:16, t2 and t5 hold any: choose with --encoding, --order and --nm",
        encoding.name(),
        order.name()
    );
    Err(Error::new(Exit::Invalid, message))
}

fn float_encoding(dtype: Dtype, form: FloatForm, name: &str) -> Result<Encoding> {
    match (form, dtype) {
        (FloatForm::Int8, Dtype::F32 | Dtype::F16 | Dtype::BF16) => Ok(Encoding::I8),
        (FloatForm::Bf16, Dtype::F32 | Dtype::F16) | (_, Dtype::BF16) => Ok(Encoding::Bf16),
        (_, Dtype::F32) => Ok(Encoding::F32),
        (_, Dtype::F16) => Ok(Encoding::F16),
        (_, other) => {
            let message =
                format!("tensor '{name}': expected F32, F16 or BF16, found {other}; convert it or leave it out");
            Err(Error::new(Exit::Unsupported, message))
        }
    }
}

/// The role in the file of a role in the graph.
fn role_of(planned: &Planned) -> Role {
    use family::Role as Graph;
    match planned.role {
        _ if planned.is_ternary() => Role::Linear,
        Graph::Embed => Role::Embedding,
        Graph::Head => Role::Head,
        Graph::AttnNorm
        | Graph::QInNorm
        | Graph::KInNorm
        | Graph::VInNorm
        | Graph::QNorm
        | Graph::KNorm
        | Graph::AttnSubNorm
        | Graph::OInNorm
        | Graph::FfnNorm
        | Graph::GateInNorm
        | Graph::UpInNorm
        | Graph::FfnSubNorm
        | Graph::DownInNorm
        | Graph::Norm => Role::Norm,
        Graph::Q
        | Graph::QBias
        | Graph::K
        | Graph::KBias
        | Graph::V
        | Graph::VBias
        | Graph::Qkv
        | Graph::O
        | Graph::OBias
        | Graph::Gate
        | Graph::GateBias
        | Graph::Up
        | Graph::UpBias
        | Graph::GateUp
        | Graph::Down
        | Graph::DownBias
        | Graph::Linear
        | Graph::Other => Role::Other,
    }
}
