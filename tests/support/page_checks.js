// What can be measured on a page: each function gives a list of faults.
({
  /** Texts with less contrast to what is behind them than WCAG AA asks for, 4.5. */
  contrast() {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    function rgba(colour) {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      return [...canvas.getImageData(0, 0, 1, 1).data];
    }
    function luminance(channels) {
      const linear = channels.slice(0, 3).map(c => c / 255).map(c => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
      return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    }
    function behind(node) {
      for (let n = node; n; n = n.parentElement) {
        const colour = rgba(getComputedStyle(n).backgroundColor);
        if (colour[3] === 255) return colour;
      }
      return [255, 255, 255, 255];
    }
    const scope = document.querySelector("dialog[open]") ?? document.body;
    return [...scope.querySelectorAll("*")].flatMap(node => {
      const hasText = [...node.childNodes].some(n => n.nodeType === Node.TEXT_NODE && n.data.trim()) || node.placeholder;
      const isSeen = node.checkVisibility({ opacityProperty: true, visibilityProperty: true });
      if (!hasText || !isSeen || node.closest("[aria-disabled=true], :disabled, .hidden")) return [];
      const style = getComputedStyle(node, node.placeholder && !node.value ? "::placeholder" : null);
      const [high, low] = [luminance(rgba(style.color)), luminance(behind(node))].sort((x, y) => y - x);
      const ratio = (high + 0.05) / (low + 0.05);
      return ratio < 4.5 ? [`${node.tagName}.${node.className} ${node.textContent.slice(0, 30)} ${ratio.toFixed(2)}`] : [];
    });
  },

  /** Parts of the page that are wider than they may be. */
  width() {
    const parts = document.querySelectorAll("body, .app, .thread, .message, .dock, .topbar, dialog[open]");
    return [...parts]
      .filter(n => n.scrollWidth > n.clientWidth + 1 || n.getBoundingClientRect().right > innerWidth + 1)
      .map(n => `${n.tagName}.${n.className} ${n.scrollWidth} > ${n.clientWidth}`);
  },

  /** Buttons smaller than WCAG AA asks for, 24 pixels. */
  size() {
    return [...document.querySelectorAll("button, textarea")]
      .filter(n => n.checkVisibility({ opacityProperty: true }))
      .filter(n => Math.min(n.getBoundingClientRect().width, n.getBoundingClientRect().height) < 24)
      .map(n => n.ariaLabel ?? n.textContent);
  },

  /** Controls and regions without a name. */
  names() {
    const parts = "button, a, input, textarea, dialog, nav, main, article, [role=region], [role=group]";
    const labelled = n => document.getElementById(n.getAttribute("aria-labelledby") ?? "")?.textContent;
    return [...document.querySelectorAll(parts)]
      .filter(n => !(n.ariaLabel || n.labels?.[0]?.textContent || n.textContent.trim() || labelled(n)))
      .map(n => n.outerHTML.slice(0, 120));
  },

  /** References to nothing, and names given twice. */
  references() {
    const kinds = ["aria-labelledby", "aria-describedby", "aria-controls", "for"];
    const used = kinds.flatMap(kind => [...document.querySelectorAll(`[${kind}]`)].flatMap(n => n.getAttribute(kind).split(" ")));
    const ids = [...document.querySelectorAll("[id]")].map(n => n.id);
    return [...used.filter(id => !ids.includes(id)), ...ids.filter((id, i) => ids.indexOf(id) !== i)];
  },
})
