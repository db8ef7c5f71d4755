// Browsers refuse workers to pages that are opened as files. There, this runs the script of the search in a hidden frame.
class IFrameWorker extends EventTarget {
  constructor(url) {
    super();
    this.frame = document.createElement("iframe");
    this.frame.hidden = true;
    this.ready = new Promise((resolve) => this.frame.addEventListener("load", resolve, { once: true }));
    const answer = 'postMessage = (data) => parent.postMessage(data, "*")';
    this.frame.srcdoc = `<script>${answer}</script><script src="${url}"></script>`;
    window.addEventListener("message", (event) => {
      if (event.source === this.frame.contentWindow) {
        this.dispatchEvent(new MessageEvent("message", { data: event.data }));
      }
    });
    document.body.append(this.frame);
  }

  postMessage(data) {
    // The function of this window: the one of the frame is replaced.
    this.ready.then(() => window.postMessage.call(this.frame.contentWindow, data, "*"));
  }

  terminate() {
    this.frame.remove();
  }
}

if (location.protocol === "file:") {
  window.IFrameWorker = IFrameWorker;
  window.Worker = IFrameWorker;
}
