>> {"id":1,"jsonrpc":"2.0","method":"eth_feeHistory","params":["0x3","latest",[10,50]]}
<< {"jsonrpc":"2.0","id":1,"result":{"oldestBlock":"0x1","reward":[["0x0","0x3"],["0x2","0x2"],["0x0","0x0"]],"baseFeePerGas":["0x7","0x7","0x7","0x7"],"gasUsedRatio":[0.0014297,0.00014,0.00018144666666666668],"baseFeePerBlobGas":["0x1","0x1","0x1","0x1"],"blobGasUsedRatio":[0,0,0]}}
