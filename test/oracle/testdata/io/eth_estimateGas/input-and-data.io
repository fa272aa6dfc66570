>> {"jsonrpc":"2.0","id":1,"method":"eth_estimateGas","params":[{"data":"0x","input":"0x0000000000000000000000000000000000000000000000000000000000000005","to":"0x9140629d4bbdf8d0e98d586afe70e7017fb6950d"},"latest"]}
<< {"jsonrpc":"2.0","id":1,"result":"0x6baf"}
