>> {"id":1,"jsonrpc":"2.0","method":"eth_feeHistory","params":[2,"0x1",[]]}
<< {"jsonrpc":"2.0","id":1,"result":{"oldestBlock":"0x0","baseFeePerGas":["0x7","0x7","0x7"],"gasUsedRatio":[0,0.0014297],"baseFeePerBlobGas":["0x1","0x1","0x1"],"blobGasUsedRatio":[0,0]}}
