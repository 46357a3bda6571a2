"""Kernels, collectives and their bytes, read from a compiled module."""

from scripts.compiled_module import instructions

MODULE = """HloModule jit_step

%fused_computation.1 (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %multiply.1 = f32[8]{0} multiply(%p, %p)
}

%region_0 (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add.1 = f32[] add(%a, %b)
}

%cond (s: (s32[], f32[8])) -> pred[] {
  %n = s32[]{:T(128)} constant(6)
  ROOT %lt = pred[] compare(%i, %n), direction=LT
}

%body (s: (s32[], f32[8])) -> (s32[], f32[8]) {
  %s = (s32[], f32[8]{0}) parameter(0)
  %x = f32[8]{0} get-tuple-element(%s), index=1
  %copy.1 = f32[8]{0} copy(%x), metadata={op_name="jit(step)/while/body/transpose(jvp(m))/mul"}
  ROOT %t = (s32[], f32[8]{0}) tuple(%i, %copy.1)
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %x.1 = f32[8]{0} parameter(0)
  %fusion.1 = f32[8]{0} fusion(%x.1), kind=kLoop, calls=%fused_computation.1, metadata={op_name="jit(step)/jvp(m)/mul"}
  %xor.1 = u32[] xor(%k, %l)
  %conv = (f32[8]{0}, u8[0]{0}) custom-call(%fusion.1), custom_call_target="__cudnn$convForward"
  %all-reduce-start.1 = (f32[8]{0}, bf16[2,4]{1,0}) all-reduce-start(%fusion.1, %y), to_apply=%region_0
  %all-reduce-done.1 = (f32[8]{0}, bf16[2,4]{1,0}) all-reduce-done(%all-reduce-start.1)
  %fusion.2 = f32[8]{0} fusion(%x.1), kind=kLoop, calls=%fused_computation.2
  ROOT %while.1 = (s32[], f32[8]{0}) while(%init), condition=%cond, body=%body
}

%fused_computation.2 (q: f32[8]) -> f32[8] {
  %q = f32[8]{0} parameter(0)
  ROOT %negate.1 = f32[8]{0} negate(%q)
}
"""


def test_kernels_are_counted_once_and_collectives_apart():
    kinds, origins, collectives, launches = instructions(MODULE)
    assert kinds == {"fusion": 2, "__cudnn$convForward": 1, "copy": 1}
    assert origins == {"forward": 1, "backward": 1, "update and others": 2}
    assert launches == 3 + 6
    assert collectives == {"all-reduce": (1, 8 * 4 + 8 * 2)}
