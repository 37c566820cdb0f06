"""The About tab: how a prompt becomes an image here, and what does not work yet."""

TEXT = """
<div class="fd-about">
<h2>How a design is made</h2>
<ol class="fd-steps">
<li><b>1. Prompt</b>You describe the picture.</li>
<li><b>2. Policy</b>A small language model (SmolLM2, 135 million weights, in 4 bit) says a sentence of workflow
words. A grammar lets it say only workflows that run with the models installed here.</li>
<li><b>3. Workflow</b>The sentence is a ComfyUI graph: checkpoint, LoRAs, sampler, schedule, steps, passes,
upscaler. You see it drawn, and can take it away as JSON.</li>
<li><b>4. Render</b>The graph is rebuilt with diffusers and run. Each image says whether it is exact
(ComfyUI's rules for noise, noise levels, samplers and texts, followed in float32) or approximate, and its PNG
carries the whole workflow.</li>
</ol>
<h2>What to expect today</h2>
<p>The image models are miniatures trained by this project: simple shapes in a few styles, 64 to 128 pixels
wide before upscaling, small enough for two CPU cores. Each is a specialist, so the choice of workflow matters: a workflow that
is right for one prompt is wrong for another.</p>
<p>The policy has learned the language of workflows from random examples (SFT), and from a reward ensemble which
workflow suits which prompt (GRPO), without rendering. The guidance slider goes from the first (0) to the second (1) and
beyond; below 1 designs for the same prompt differ widely in quality.</p>
<h2>Files</h2>
<p>Drop a PNG from here, or a PNG or JSON from ComfyUI, anywhere on the Playground to restore its prompt, workflow
and seed. On your own machine every finished design is kept as a record. On a public page files are deleted after a day,
and only people who may write can keep a design.</p>
<h2>Ablation</h2>
<p>What does one thing do when all else stays the same? A grid varies two of guidance, prompt, seed, temperature, policy,
best of N and any component that you fix by hand, with equal chance in every cell; curves show what it comes to,
with intervals. A link restores the setting.</p>
<h2>Label, Data and Train</h2>
<p>In Label you compare two images of the same prompt without knowing how they were made; your votes become scores.
In Data you find every record again, with its workflow, its scores and its votes, and see which component helps
where. What has been collected here is what the reward models learn from.</p>
<p>In Train you start and watch every kind of training that made this demo, by form or, with the command that the form
shows, from a shell. One run is at work at a time; <code>--queue</code> makes a run wait for its turn. A reward
ensemble predicts the score of a design from prompt and workflow alone: where one is installed, each design shows
what is expected of it before it is rendered.</p>
<h2>The idea</h2>
<p>After &ldquo;Policy Optimized Text-to-Image Pipeline Design&rdquo;
(<a href="https://arxiv.org/abs/2505.21478" rel="noopener" target="_blank">arXiv 2505.21478</a>) and ComfyGen
(<a href="https://arxiv.org/abs/2410.01731" rel="noopener" target="_blank">arXiv 2410.01731</a>).</p>
</div>
"""
