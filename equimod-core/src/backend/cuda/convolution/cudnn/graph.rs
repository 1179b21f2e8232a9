//! cuDNN's graphs of operations, and their execution plans.

use std::ffi::{c_char, c_void};
use std::ptr::null_mut;

use candle_core::cuda_backend::cudarc::cudnn::{result::CudnnResult, sys};
use candle_core::{Error, Result};
use sys::cudnnBackendAttributeName_t as Name;
use sys::cudnnBackendAttributeType_t as Type;
use sys::cudnnBackendDescriptorType_t as Kind;

/// Memory that a plan may use, in bytes.
const WORKSPACE: i64 = 1 << 30;

/// Engine configurations of a graph that are tried, at most.
const CONFIGURATIONS: usize = 8;

/// Numerical notes of an engine, at most.
const NOTES: usize = 16;

/// Alignment of all tensors, in bytes.
pub const ALIGNMENT: u64 = 16;

/// A value of an attribute, with the type under which cuDNN takes it.
///
/// # Safety
///
/// A value has to have the layout that cuDNN reads and writes for the type.
unsafe trait Value: Copy {
    /// cuDNN's name of the type.
    const TYPE: Type;
}

macro_rules! values {
    ($($value:ty: $name:ident),+ $(,)?) => {
        $(
            // SAFETY: The type is the one of cuDNN's header.
            unsafe impl Value for $value {
                const TYPE: Type = Type::$name;
            }
        )+
    };
}
values! {
    i64: CUDNN_TYPE_INT64,
    f32: CUDNN_TYPE_FLOAT,
    bool: CUDNN_TYPE_BOOLEAN,
    *mut c_void: CUDNN_TYPE_BACKEND_DESCRIPTOR,
    sys::cudnnHandle_t: CUDNN_TYPE_HANDLE,
    sys::cudnnDataType_t: CUDNN_TYPE_DATA_TYPE,
    sys::cudnnConvolutionMode_t: CUDNN_TYPE_CONVOLUTION_MODE,
    sys::cudnnPointwiseMode_t: CUDNN_TYPE_POINTWISE_MODE,
    sys::cudnnGenStatsMode_t: CUDNN_TYPE_GENSTATS_MODE,
    sys::cudnnBackendHeurMode_t: CUDNN_TYPE_HEUR_MODE,
    Address: CUDNN_TYPE_VOID_PTR,
    Note: CUDNN_TYPE_NUMERICAL_NOTE,
    c_char: CUDNN_TYPE_CHAR,
}

/// A device address.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Address(u64);

/// A numerical note of an engine, which may be one of a later cuDNN.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[repr(transparent)]
struct Note(u32);

/// A descriptor of cuDNN's graph interface, which is destroyed with its owner.
struct Descriptor(sys::cudnnBackendDescriptor_t);

impl Descriptor {
    fn new(kind: Kind) -> CudnnResult<Self> {
        let mut descriptor = Self(null_mut());
        // SAFETY: The descriptor is written to a variable that is alive.
        unsafe { sys::cudnnBackendCreateDescriptor(kind, &mut descriptor.0) }.result()?;
        Ok(descriptor)
    }

    fn set<V: Value>(&self, name: Name, values: &[V]) -> CudnnResult<()> {
        let at = values.as_ptr().cast();
        // SAFETY: The descriptor is alive, and the values have the type and the number that are passed.
        unsafe { sys::cudnnBackendSetAttribute(self.0, name, V::TYPE, values.len() as i64, at) }.result()
    }

    /// Fills `values`, and returns how many cuDNN has, which may be more or fewer.
    fn get<V: Value>(&self, name: Name, values: &mut [V]) -> CudnnResult<usize> {
        let mut count = 0;
        let (at, room) = (values.as_mut_ptr().cast(), values.len() as i64);
        // SAFETY: The descriptor is alive, and the room has the type and the size that are passed.
        unsafe { sys::cudnnBackendGetAttribute(self.0, name, V::TYPE, room, &mut count, at) }.result()?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    fn finalized(self) -> CudnnResult<Self> {
        // SAFETY: The descriptor is alive.
        unsafe { sys::cudnnBackendFinalize(self.0) }.result()?;
        Ok(self)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: The descriptor is destroyed once. An error would be of no consequence.
            let _ = unsafe { sys::cudnnBackendDestroyDescriptor(self.0) };
        }
    }
}

/// Device for which plans are made.
pub enum Target<'a> {
    /// The device of a handle.
    Handle(sys::cudnnHandle_t),
    /// A device that need not be there, by its properties.
    #[cfg_attr(not(test), expect(dead_code, reason = "plans without a device are made in tests"))]
    Properties(&'a Properties),
}

/// Properties of a device.
pub struct Properties(Descriptor);

impl Properties {
    /// Reads cuDNN's description of a device in JSON.
    ///
    /// # Errors
    ///
    /// If cuDNN does not understand it.
    #[cfg(test)]
    pub fn from_json(text: &str) -> Result<Self> {
        let read = || -> CudnnResult<_> {
            let descriptor = Descriptor::new(Kind::CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR)?;
            let bytes: Vec<c_char> = text.bytes().map(|byte| byte as c_char).collect();
            descriptor.set(Name::CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, &bytes)?;
            descriptor.finalized()
        };
        read().map(Self).map_err(Error::wrap)
    }
}

/// A tensor of a graph, by its place among the tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node(usize);

/// Operations on tensors `[N, C, H, W]` with channels last.
///
/// All methods fail if cuDNN refuses the operation.
#[derive(Default)]
pub struct Graph {
    tensors: Vec<Descriptor>,
    operations: Vec<Descriptor>,
    details: Vec<Descriptor>,
}

/// A convolution's stride and padding, the same along both axes.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Stride.
    pub stride: i64,
    /// Padding on each side.
    pub padding: i64,
}

/// Type of all arithmetic.
const COMPUTE: sys::cudnnDataType_t = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;

impl Graph {
    /// A tensor in memory.
    pub fn tensor(&mut self, dims: [i64; 4], dtype: sys::cudnnDataType_t) -> CudnnResult<Node> {
        self.add(dims, dtype, false)
    }

    /// A tensor between operations, which is never in memory.
    pub fn between(&mut self, dims: [i64; 4], dtype: sys::cudnnDataType_t) -> CudnnResult<Node> {
        self.add(dims, dtype, true)
    }

    fn add(&mut self, dims: [i64; 4], dtype: sys::cudnnDataType_t, is_virtual: bool) -> CudnnResult<Node> {
        let [_, channels, height, width] = dims;
        let tensor = Descriptor::new(Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR)?;
        tensor.set(Name::CUDNN_ATTR_TENSOR_DATA_TYPE, &[dtype])?;
        tensor.set(Name::CUDNN_ATTR_TENSOR_DIMENSIONS, &dims)?;
        let strides = [channels * height * width, 1, channels * width, channels];
        tensor.set(Name::CUDNN_ATTR_TENSOR_STRIDES, &strides)?;
        tensor.set(Name::CUDNN_ATTR_TENSOR_UNIQUE_ID, &[self.tensors.len() as i64])?;
        tensor.set(Name::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, &[ALIGNMENT as i64])?;
        tensor.set(Name::CUDNN_ATTR_TENSOR_IS_VIRTUAL, &[is_virtual])?;
        self.tensors.push(tensor.finalized()?);
        Ok(Node(self.tensors.len() - 1))
    }

    fn at(&self, Node(index): Node) -> *mut c_void {
        self.tensors.get(index).map_or(null_mut(), |tensor| tensor.0)
    }

    /// Adds an operation with its descriptors by name.
    fn operation(
        &mut self,
        kind: Kind,
        descriptors: &[(Name, *mut c_void)],
        factors: &[(Name, f32)],
    ) -> CudnnResult<()> {
        let operation = Descriptor::new(kind)?;
        descriptors.iter().try_for_each(|(name, descriptor)| operation.set(*name, &[*descriptor]))?;
        factors.iter().try_for_each(|(name, factor)| operation.set(*name, &[*factor]))?;
        self.operations.push(operation.finalized()?);
        Ok(())
    }

    fn window(&mut self, window: Window) -> CudnnResult<*mut c_void> {
        let convolution = Descriptor::new(Kind::CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR)?;
        convolution.set(Name::CUDNN_ATTR_CONVOLUTION_COMP_TYPE, &[COMPUTE])?;
        let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        convolution.set(Name::CUDNN_ATTR_CONVOLUTION_CONV_MODE, &[mode])?;
        convolution.set(Name::CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, &[2i64])?;
        convolution.set(Name::CUDNN_ATTR_CONVOLUTION_DILATIONS, &[1i64, 1])?;
        convolution.set(Name::CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, &[window.stride; 2])?;
        convolution.set(Name::CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, &[window.padding; 2])?;
        convolution.set(Name::CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, &[window.padding; 2])?;
        Ok(self.detail(convolution.finalized()?))
    }

    fn detail(&mut self, descriptor: Descriptor) -> *mut c_void {
        let at = descriptor.0;
        self.details.push(descriptor);
        at
    }

    /// `y = x ∗ w`.
    pub fn convolve(&mut self, window: Window, x: Node, w: Node, y: Node) -> CudnnResult<()> {
        let window = self.window(window)?;
        let descriptors = [
            (Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, window),
            (Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, self.at(x)),
            (Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, self.at(w)),
            (Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, self.at(y)),
        ];
        let factors = [
            (Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, 1.0),
            (Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, 0.0),
        ];
        self.operation(Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, &descriptors, &factors)
    }

    /// The gradient `dx` of a convolution's input.
    pub fn convolve_backward(&mut self, window: Window, dx: Node, w: Node, dy: Node) -> CudnnResult<()> {
        let window = self.window(window)?;
        let descriptors = [
            (Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, window),
            (Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, self.at(dx)),
            (Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, self.at(w)),
            (Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, self.at(dy)),
        ];
        let factors = [
            (Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, 1.0),
            (Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, 0.0),
        ];
        self.operation(Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, &descriptors, &factors)
    }

    fn pointwise(&mut self, mode: sys::cudnnPointwiseMode_t, tensors: &[(Name, Node)]) -> CudnnResult<()> {
        let function = Descriptor::new(Kind::CUDNN_BACKEND_POINTWISE_DESCRIPTOR)?;
        function.set(Name::CUDNN_ATTR_POINTWISE_MODE, &[mode])?;
        function.set(Name::CUDNN_ATTR_POINTWISE_MATH_PREC, &[COMPUTE])?;
        let function = self.detail(function.finalized()?);
        let mut descriptors = vec![(Name::CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, function)];
        descriptors.extend(tensors.iter().map(|(name, tensor)| (*name, self.at(*tensor))));
        self.operation(Kind::CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, &descriptors, &[])
    }

    fn binary(&mut self, mode: sys::cudnnPointwiseMode_t, [a, b, y]: [Node; 3]) -> CudnnResult<()> {
        let tensors = [
            (Name::CUDNN_ATTR_OPERATION_POINTWISE_XDESC, a),
            (Name::CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b),
            (Name::CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y),
        ];
        self.pointwise(mode, &tensors)
    }

    /// `y = a · b`, where `b` may be of channels alone.
    pub fn multiply(&mut self, a: Node, b: Node, y: Node) -> CudnnResult<()> {
        self.binary(sys::cudnnPointwiseMode_t::CUDNN_POINTWISE_MUL, [a, b, y])
    }

    /// `y = a + b`, where `b` may be of channels alone.
    pub fn add_to(&mut self, a: Node, b: Node, y: Node) -> CudnnResult<()> {
        self.binary(sys::cudnnPointwiseMode_t::CUDNN_POINTWISE_ADD, [a, b, y])
    }

    /// `y = max(x, 0)`.
    pub fn relu(&mut self, x: Node, y: Node) -> CudnnResult<()> {
        let tensors =
            [(Name::CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x), (Name::CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y)];
        self.pointwise(sys::cudnnPointwiseMode_t::CUDNN_POINTWISE_RELU_FWD, &tensors)
    }

    /// `dx = dy · [x > 0]`.
    pub fn relu_backward(&mut self, dy: Node, x: Node, dx: Node) -> CudnnResult<()> {
        let tensors = [
            (Name::CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x),
            (Name::CUDNN_ATTR_OPERATION_POINTWISE_DYDESC, dy),
            (Name::CUDNN_ATTR_OPERATION_POINTWISE_DXDESC, dx),
        ];
        self.pointwise(sys::cudnnPointwiseMode_t::CUDNN_POINTWISE_RELU_BWD, &tensors)
    }

    /// Sums of the values and of their squares over all but the channels, f32.
    pub fn sums(&mut self, x: Node, sum: Node, squares: Node) -> CudnnResult<()> {
        let operation = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR)?;
        let mode = sys::cudnnGenStatsMode_t::CUDNN_GENSTATS_SUM_SQSUM;
        operation.set(Name::CUDNN_ATTR_OPERATION_GENSTATS_MODE, &[mode])?;
        operation.set(Name::CUDNN_ATTR_OPERATION_GENSTATS_MATH_PREC, &[COMPUTE])?;
        operation.set(Name::CUDNN_ATTR_OPERATION_GENSTATS_XDESC, &[self.at(x)])?;
        operation.set(Name::CUDNN_ATTR_OPERATION_GENSTATS_SUMDESC, &[self.at(sum)])?;
        operation.set(Name::CUDNN_ATTR_OPERATION_GENSTATS_SQSUMDESC, &[self.at(squares)])?;
        self.operations.push(operation.finalized()?);
        Ok(())
    }

    /// The first plan by cuDNN's heuristics that is deterministic and fits the workspace, if there is one.
    ///
    /// # Errors
    ///
    /// If cuDNN refuses the graph.
    pub fn plan(self, target: &Target) -> CudnnResult<Option<Plan>> {
        let graph = Descriptor::new(Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)?;
        let operations: Vec<*mut c_void> = self.operations.iter().map(|operation| operation.0).collect();
        graph.set(Name::CUDNN_ATTR_OPERATIONGRAPH_OPS, &operations)?;
        if let Target::Handle(handle) = target {
            graph.set(Name::CUDNN_ATTR_OPERATIONGRAPH_HANDLE, &[*handle])?;
        }
        let graph = graph.finalized()?;
        for configuration in configurations(&graph, target)? {
            if let Some((plan, workspace)) = plan(&configuration, target)? {
                return Ok(Some(Plan { plan, workspace, _configuration: configuration, _graph: graph, _parts: self }));
            }
        }
        Ok(None)
    }
}

/// Engine configurations of a graph in the order of preference.
fn configurations(graph: &Descriptor, target: &Target) -> CudnnResult<Vec<Descriptor>> {
    let heuristics = Descriptor::new(Kind::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)?;
    heuristics.set(Name::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, &[graph.0])?;
    heuristics.set(Name::CUDNN_ATTR_ENGINEHEUR_MODE, &[sys::cudnnBackendHeurMode_t::CUDNN_HEUR_MODE_A])?;
    if let Target::Properties(Properties(properties)) = target {
        heuristics.set(Name::CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, &[properties.0])?;
    }
    let heuristics = heuristics.finalized()?;
    let new = |_| Descriptor::new(Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    let mut found = (0..CONFIGURATIONS).map(new).collect::<CudnnResult<Vec<_>>>()?;
    let mut room: Vec<*mut c_void> = found.iter().map(|configuration| configuration.0).collect();
    let count = heuristics.get(Name::CUDNN_ATTR_ENGINEHEUR_RESULTS, &mut room)?;
    found.truncate(count);
    Ok(found)
}

/// Whether the engine of a configuration gives the same bits every time.
fn is_deterministic(configuration: &Descriptor) -> CudnnResult<bool> {
    let engine = Descriptor::new(Kind::CUDNN_BACKEND_ENGINE_DESCRIPTOR)?;
    configuration.get(Name::CUDNN_ATTR_ENGINECFG_ENGINE, &mut [engine.0])?;
    let mut notes = [Note::default(); NOTES];
    let count = engine.get(Name::CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, &mut notes)?;
    let not = Note(sys::cudnnBackendNumericalNote_t::CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC as u32);
    Ok(!notes.iter().take(count).any(|note| *note == not))
}

/// The plan of a configuration and its workspace in bytes, if it can be used.
fn plan(configuration: &Descriptor, target: &Target) -> CudnnResult<Option<(Descriptor, usize)>> {
    if !is_deterministic(configuration)? {
        return Ok(None);
    }
    let plan = Descriptor::new(Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)?;
    plan.set(Name::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, &[configuration.0])?;
    match target {
        Target::Handle(handle) => plan.set(Name::CUDNN_ATTR_EXECUTION_PLAN_HANDLE, &[*handle])?,
        Target::Properties(Properties(properties)) => {
            plan.set(Name::CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, &[properties.0])?;
        }
    }
    // An engine may turn out not to support the device only here, where it is compiled.
    let Ok(plan) = plan.finalized() else { return Ok(None) };
    let mut bytes = [0i64];
    plan.get(Name::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, &mut bytes)?;
    let [bytes] = bytes;
    Ok((bytes <= WORKSPACE).then_some((plan, usize::try_from(bytes).unwrap_or(0))))
}

/// A graph that is ready to run, with everything it refers to.
pub struct Plan {
    plan: Descriptor,
    /// Workspace that it needs, in bytes.
    pub workspace: usize,
    _configuration: Descriptor,
    _graph: Descriptor,
    _parts: Graph,
}

impl Plan {
    /// Runs the graph on tensors with the given addresses, and with a workspace.
    ///
    /// # Safety
    ///
    /// The addresses have to be those of memory of the tensors' sizes on the handle's device, and the workspace as
    /// large as the plan needs.
    ///
    /// # Errors
    ///
    /// If cuDNN cannot run it.
    pub unsafe fn run(&self, handle: sys::cudnnHandle_t, tensors: &[(Node, u64)], workspace: u64) -> Result<()> {
        let run = || {
            let pack = Descriptor::new(Kind::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)?;
            let names: Vec<i64> = tensors.iter().map(|(Node(index), _)| *index as i64).collect();
            let addresses: Vec<Address> = tensors.iter().map(|(_, address)| Address(*address)).collect();
            pack.set(Name::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, &names)?;
            pack.set(Name::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, &addresses)?;
            pack.set(Name::CUDNN_ATTR_VARIANT_PACK_WORKSPACE, &[Address(workspace)])?;
            let pack = pack.finalized()?;
            // SAFETY: Plan, pack and handle are alive; the caller vouches for the addresses.
            unsafe { sys::cudnnBackendExecute(handle, self.plan.0, pack.0) }.result()
        };
        run().map_err(|error| Error::msg(format!("cuDNN cannot compute a fused convolution: {error}")))
    }
}
