//! From a shape to bytes.

use std::borrow::Cow;

use paguro_tests::guest;
use wasm_encoder as wasm;
use wasm_encoder::{
    BlockType, CodeSection, Component, ComponentSection, ConstExpr, CustomSection, DataSection, ElementSection,
    Elements, ExportKind, ExportSection, Function, FunctionSection, GlobalSection, GlobalType, Instruction,
    MemorySection, MemoryType, Module, ModuleSection, NestedComponentSection, RefType, StartSection, TableSection,
    TableType, TypeSection, ValType,
};

use super::shape::Shape;

/// Real guests to start from.
pub struct Sources {
    /// The handler alone: most shapes are this and something behind it.
    worker: Vec<u8>,
    /// Core modules of its own, which come first in the numbering of those behind it.
    modules: u32,
    components: u32,
    mutable: Vec<Vec<u8>>,
    faults: Vec<Vec<u8>>,
}

const MUTABLE: [&str; 4] = ["echo", "counter-v1", "limiter", "readme-counter-c"];
const FAULTS: [&str; 8] = [
    "fault-spin",
    "fault-memory",
    "fault-recursion",
    "fault-init-slow",
    "fault-trap",
    "fault-flood",
    "fault-huge-state",
    "fault-host-calls",
];

impl Sources {
    pub fn read() -> Sources {
        let worker = guest("echo");
        let count = |id| u32::try_from(sections(&worker).iter().filter(|found| **found == id).count()).unwrap_or(0);
        let (modules, components) = (count(CORE_MODULE), count(COMPONENT));
        let all = |names: &[&str]| names.iter().map(|name| guest(name)).collect();
        Sources { modules, components, mutable: all(&MUTABLE), faults: all(&FAULTS), worker }
    }

    /// The worker, and these sections behind it.
    fn behind(&self, sections: impl FnOnce(&mut Behind)) -> Vec<u8> {
        let mut behind = Behind { bytes: self.worker.clone(), modules: self.modules, components: self.components };
        sections(&mut behind);
        behind.bytes
    }

    /// The worker, with a module behind it that is instantiated so many times.
    fn with_module(&self, module: &Module, times: u32) -> Vec<u8> {
        self.behind(|behind| {
            let index = behind.module(module);
            behind.instances(index, times);
        })
    }
}

/// Numbers of sections of a component.
const CORE_MODULE: u8 = 1;
const COMPONENT: u8 = 4;

/// The numbers of the outermost sections of a component, in order.
fn sections(component: &[u8]) -> Vec<u8> {
    let mut found = Vec::new();
    let mut rest = component.get(8..).unwrap_or_default();
    while let [id, after @ ..] = rest {
        let digits = after.iter().position(|byte| byte & 0x80 == 0).map_or(after.len(), |last| last + 1);
        let length = after[..digits].iter().rev().fold(0_usize, |sum, byte| sum << 7 | usize::from(byte & 0x7f));
        found.push(*id);
        rest = after.get(digits + length..).unwrap_or_default();
    }
    found
}

struct Behind {
    bytes: Vec<u8>,
    modules: u32,
    components: u32,
}

impl Behind {
    fn module(&mut self, module: &Module) -> u32 {
        ModuleSection(module).append_to_component(&mut self.bytes);
        self.modules += 1;
        self.modules - 1
    }

    fn component(&mut self, component: &Component) -> u32 {
        NestedComponentSection(component).append_to_component(&mut self.bytes);
        self.components += 1;
        self.components - 1
    }

    fn instances(&mut self, module: u32, times: u32) {
        instances(module, times).append_to_component(&mut self.bytes);
    }
}

fn instances(module: u32, times: u32) -> wasm::InstanceSection {
    let mut instances = wasm::InstanceSection::new();
    for _ in 0..times {
        instances.instantiate::<_, &str>(module, []);
    }
    instances
}

/// The component of a shape: the same for the same shape.
pub fn bytes(shape: &Shape, sources: &Sources) -> Vec<u8> {
    match *shape {
        Shape::Joins { locals, joins } => sources.with_module(&function(&through_joins(locals, joins)), 1),
        Shape::Globals { globals, times } => sources.with_module(&of_globals(globals), times),
        Shape::Functions { functions, times } => sources.with_module(&of_functions(functions), times),
        Shape::Tables { tables, elements, times } => sources.with_module(&of_tables(tables, elements), times),
        Shape::Memories { memories, pages, times } => sources.with_module(&of_memories(memories, pages), times),
        Shape::Blocks { depth } => sources.with_module(&function(&of_blocks(depth)), 1),
        Shape::Expression { operators } => sources.with_module(&function(&of_operators(operators)), 1),
        Shape::Jumps { tables, targets } => sources.with_module(&function(&of_jumps(tables, targets)), 1),
        Shape::Bodies { functions } => sources.with_module(&of_bodies(functions), 1),
        Shape::Nested { depth } => nested(sources, depth),
        Shape::Powers { fanout, depth } => powers(sources, fanout, depth),
        Shape::Types { count } => sources.behind(|behind| _ = behind.component(&types(count))),
        Shape::Imports { count } => imports(count).finish(),
        Shape::Names { count, bytes } => sources.with_module(&of_names(count, bytes), 1),
        Shape::Data { bytes, segments } => sources.with_module(&of_data(bytes, segments), 1),
        Shape::Custom { bytes } => sources.behind(|behind| {
            let data = Cow::Owned(vec![7; bytes as usize]);
            CustomSection { name: "soak".into(), data }.append_to_component(&mut behind.bytes);
        }),
        Shape::Start {} => sources.with_module(&that_starts(), 1),
        Shape::Mutated { guest, changes, seed } => mutated(pick(&sources.mutable, guest), changes, seed),
        Shape::Truncated { guest, at } => {
            let whole = pick(&sources.mutable, guest);
            whole[..whole.len() * at as usize / 1_000].to_vec()
        }
        Shape::Fault { guest } => pick(&sources.faults, guest).clone(),
        Shape::Noise { bytes, seed } => {
            let mut random = fastrand::Rng::with_seed(seed);
            let noise = std::iter::repeat_with(|| random.u8(..)).take(bytes as usize);
            Component::HEADER.into_iter().chain(noise).collect()
        }
    }
}

fn pick(all: &[Vec<u8>], which: usize) -> &Vec<u8> {
    &all[which % all.len()]
}

fn mutated(whole: &[u8], changes: u32, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = whole.to_vec();
    for _ in 0..changes {
        // The header stays: without it nobody looks any further.
        let at = random.usize(8..bytes.len());
        bytes[at] = if random.bool() { random.u8(..) } else { bytes[at] ^ (1 << random.u32(0..8)) };
    }
    bytes
}

fn i64_global() -> GlobalType {
    GlobalType { val_type: ValType::I64, mutable: true, shared: false }
}

/// A module of one function `(i32) -> i64` with a global to change.
fn function(body: &Function) -> Module {
    let mut code = CodeSection::new();
    code.function(body);
    let mut functions = FunctionSection::new();
    functions.function(0);
    let mut globals = GlobalSection::new();
    globals.global(i64_global(), &ConstExpr::i64_const(0));
    let mut exports = ExportSection::new();
    exports.export("f", ExportKind::Func, 0);
    let mut module = Module::new();
    module.section(&one_type()).section(&functions).section(&globals).section(&exports).section(&code);
    module
}

fn one_type() -> TypeSection {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32], [ValType::I64]);
    types
}

fn through_joins(locals: u32, joins: u32) -> Function {
    let mut body = Function::new([(locals, ValType::I64)]);
    let mut out = body.instructions();
    for local in 1..=locals {
        // Each another value that nobody can foresee.
        out.global_get(0).i64_const(i64::from(local)).i64_mul().local_set(local);
    }
    for join in 0..joins {
        let local = 1 + join % locals.max(1);
        out.local_get(0).if_(BlockType::Empty);
        out.global_get(0).i64_const(1).i64_add().global_set(0);
        out.local_get(local).i64_const(3).i64_add().local_set(local).end();
    }
    out.i64_const(0);
    for local in 1..=locals {
        out.local_get(local).i64_add();
    }
    out.end();
    body
}

fn of_blocks(depth: u32) -> Function {
    let mut body = Function::new([]);
    let mut out = body.instructions();
    for _ in 0..depth {
        out.block(BlockType::Empty).local_get(0).br_if(0);
    }
    for _ in 0..depth {
        out.end();
    }
    out.i64_const(0).end();
    body
}

fn of_operators(operators: u32) -> Function {
    let mut body = Function::new([]);
    let mut out = body.instructions();
    for number in 0..=operators {
        out.global_get(0).i64_const(i64::from(number)).i64_xor();
    }
    for _ in 0..operators {
        out.i64_add();
    }
    out.end();
    body
}

fn of_jumps(tables: u32, targets: u32) -> Function {
    let mut body = Function::new([]);
    let mut out = body.instructions();
    for _ in 0..tables {
        out.block(BlockType::Empty).block(BlockType::Empty).local_get(0);
        out.br_table((0..targets).map(|target| target % 2).collect::<Vec<u32>>(), 0).end().end();
    }
    out.i64_const(0).end();
    body
}

fn of_globals(count: u32) -> Module {
    let mut globals = GlobalSection::new();
    for _ in 0..count {
        globals.global(i64_global(), &ConstExpr::i64_const(0));
    }
    let mut module = Module::new();
    module.section(&globals);
    module
}

/// Functions that are declared as referred to: each has a record in each instance.
fn of_functions(count: u32) -> Module {
    let mut functions = FunctionSection::new();
    let mut code = CodeSection::new();
    let mut body = Function::new([]);
    body.instructions().i64_const(0).end();
    for _ in 0..count {
        functions.function(0);
        code.function(&body);
    }
    let mut elements = ElementSection::new();
    elements.declared(Elements::Functions((0..count).collect::<Vec<u32>>().into()));
    let mut module = Module::new();
    module.section(&one_type()).section(&functions).section(&elements).section(&code);
    module
}

fn of_bodies(count: u32) -> Module {
    let mut functions = FunctionSection::new();
    let mut code = CodeSection::new();
    for number in 0..count {
        functions.function(0);
        let mut body = Function::new([(1, ValType::I64)]);
        let mut out = body.instructions();
        out.local_get(0).i64_extend_i32_u().local_set(1);
        for round in 0..8 {
            out.local_get(1).i64_const(i64::from(number + round)).i64_rotl().local_set(1);
        }
        out.local_get(1).end();
        code.function(&body);
    }
    let mut module = Module::new();
    module.section(&one_type()).section(&functions).section(&code);
    module
}

fn of_tables(count: u32, elements: u32) -> Module {
    let mut tables = TableSection::new();
    for _ in 0..count {
        tables.table(TableType {
            element_type: RefType::FUNCREF,
            table64: false,
            minimum: u64::from(elements),
            maximum: None,
            shared: false,
        });
    }
    let mut module = Module::new();
    module.section(&tables);
    module
}

fn of_memories(count: u32, pages: u32) -> Module {
    let mut memories = MemorySection::new();
    for _ in 0..count {
        memories.memory(memory(pages));
    }
    let mut module = Module::new();
    module.section(&memories);
    module
}

fn memory(pages: u32) -> MemoryType {
    MemoryType { minimum: u64::from(pages), maximum: None, memory64: false, shared: false, page_size_log2: None }
}

fn of_names(count: u32, bytes: u32) -> Module {
    let mut globals = GlobalSection::new();
    globals.global(i64_global(), &ConstExpr::i64_const(0));
    let mut exports = ExportSection::new();
    for number in 0..count {
        // Longer than a format can make it.
        let number = number.to_string();
        let zeros = (bytes as usize).saturating_sub(number.len());
        exports.export(&("0".repeat(zeros) + &number), ExportKind::Global, 0);
    }
    let mut module = Module::new();
    module.section(&globals).section(&exports);
    module
}

fn of_data(bytes: u32, segments: u32) -> Module {
    let mut memories = MemorySection::new();
    memories.memory(memory(bytes.div_ceil(1 << 16)));
    let mut data = DataSection::new();
    for number in 0..segments {
        data.active(
            0,
            &ConstExpr::i32_const(0),
            std::iter::repeat_n(u8::try_from(number).unwrap_or(0), bytes as usize),
        );
    }
    let mut module = Module::new();
    module.section(&memories).section(&data);
    module
}

fn that_starts() -> Module {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let mut functions = FunctionSection::new();
    functions.function(0);
    let mut body = Function::new([]);
    body.instruction(&Instruction::Loop(BlockType::Empty)).instruction(&Instruction::Br(0));
    body.instruction(&Instruction::End).instruction(&Instruction::End);
    let mut code = CodeSection::new();
    code.function(&body);
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&StartSection { function_index: 0 }).section(&code);
    module
}

/// A component that holds so many of its like, one in another.
fn nested(sources: &Sources, depth: u32) -> Vec<u8> {
    let mut inner = Component::new();
    for _ in 0..depth {
        let mut outer = Component::new();
        outer.section(&NestedComponentSection(&inner));
        inner = outer;
    }
    sources.behind(|behind| _ = behind.component(&inner))
}

/// `fanout` instances of a component, each with as many of the one below: at the bottom one of a small module.
fn powers(sources: &Sources, fanout: u32, depth: u32) -> Vec<u8> {
    let mut inner = Component::new();
    inner.section(&ModuleSection(&of_globals(10))).section(&instances(0, 1));
    for _ in 1..depth {
        let mut outer = Component::new();
        outer.section(&NestedComponentSection(&inner)).section(&component_instances(0, fanout));
        inner = outer;
    }
    sources.behind(|behind| {
        let index = behind.component(&inner);
        component_instances(index, fanout).append_to_component(&mut behind.bytes);
    })
}

fn component_instances(component: u32, times: u32) -> wasm::ComponentInstanceSection {
    let mut instances = wasm::ComponentInstanceSection::new();
    for _ in 0..times {
        instances.instantiate::<_, &str>(component, []);
    }
    instances
}

/// Pairs of the type before, twice: the last one, written out, would be a power of two.
fn types(count: u32) -> Component {
    let mut types = wasm::ComponentTypeSection::new();
    types.defined_type().tuple([wasm::PrimitiveValType::U64, wasm::PrimitiveValType::String]);
    for before in 0..count {
        let before = wasm::ComponentValType::Type(before);
        types.defined_type().tuple([before, before]);
    }
    let mut inner = Component::new();
    inner.section(&types);
    inner
}

fn imports(count: u32) -> Component {
    let mut types = wasm::ComponentTypeSection::new();
    types.function().params::<[(&str, wasm::ComponentValType); 0], _>([]).result(None);
    let mut imports = wasm::ComponentImportSection::new();
    for number in 0..count {
        imports.import(format!("nobody-{number}").as_str(), wasm::ComponentTypeRef::Func(0));
    }
    let mut component = Component::new();
    component.section(&types).section(&imports);
    component
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_behind_a_worker_leaves_it_a_component() {
        let sources = Sources::read();
        assert!(sources.modules > 0, "the worker has a module of its own");
        let bytes = bytes(&Shape::Globals { globals: 3, times: 2 }, &sources);
        assert!(bytes.starts_with(&Component::HEADER));
        let (before, after) = (sections(&sources.worker), sections(&bytes));
        assert_eq!(after[..before.len()], before);
        assert_eq!(after[before.len()..], [CORE_MODULE, 2], "a module and its instances");
    }
}
