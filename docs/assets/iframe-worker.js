// Browsers start no worker from a file: the search's runs in a hidden frame instead. (Material would fetch a like one.)
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.srcdoc = `<script src="${url}"></script>`;
      this.window = new Promise((loaded) => {
        frame.onload = () => loaded(frame.contentWindow);
      });
      this.window.then((inside) => {
        inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      });
      document.body.append(frame);
    }

    postMessage(data) {
      this.window.then((inside) => inside.dispatchEvent(new MessageEvent("message", { data })));
    }
  };
}
